"""Damages each image once, like photographs that have no clean version."""

from __future__ import annotations

import copy
import hashlib
import inspect
from collections.abc import Sequence
from contextlib import suppress
from functools import lru_cache
from pathlib import Path
from types import FunctionType
from typing import Any

import albumentations
import numpy as np
from numpy.typing import NDArray

from img2img.data.pairs import Transform, compose, corrupt
from img2img.data.splits import Source
from img2img.data.stream import draws_of_image
from img2img.imaging.files import to_float


class FixedCorruption:
    """Damages whole images, depending only on (seed, name): a `Finish` of the decoded-image cache.

    Holes that the transforms mark are not passed on. The source gives the images their names.
    """

    def __init__(self, transforms: Sequence[Transform], seed: int, source: Source) -> None:
        self.pipeline, self.seed, self.source = compose(transforms), seed, source
        # Described after composing, because composing sets some attributes of the transforms.
        self.description = f"{albumentations.__version__}: {describe(self.pipeline)}"

    def key(self, path: Path) -> str:
        """Returns what the result depends on: transforms and their arguments, seed, name."""
        return f"{self.description}|{self.seed}|{self.source.name(path)}"

    def __call__(self, path: Path, pixels: NDArray[Any]) -> NDArray[np.float32]:
        """Returns the damaged image, H×W×C float32, not clipped.

        Raises:
            UserError: If the transforms changed the size.
        """
        pipeline = copy.deepcopy(self.pipeline)  # each thread draws from generators of its own
        return corrupt(pipeline, to_float(pixels), draws_of_image(self.seed, self.source.name(path)))[0]


def describe(thing: Any) -> str:
    """Returns a complete description of what a transform does, identical in every process.

    albumentations' own `to_dict` leaves out arguments that a transform stores under other names. Objects without a
    name, such as lambdas, are described by their memory address, which differs between processes.
    """
    if isinstance(thing, albumentations.BasicTransform | albumentations.BaseCompose):
        said = {name: value for name, value in vars(thing).items() if name not in _common_attributes()}
        return f"{_name(type(thing))}({describe(said)})"
    if isinstance(thing, dict):
        return "{" + ", ".join(f"{describe(key)}: {describe(value)}" for key, value in thing.items()) + "}"
    if isinstance(thing, list | tuple | set | frozenset):
        parts = [describe(part) for part in thing]
        return f"[{', '.join(parts if isinstance(thing, list | tuple) else sorted(parts))}]"
    if isinstance(thing, np.ndarray):  # its repr leaves out the middle
        return f"{thing.dtype}{thing.shape}{_digest(thing.tobytes())}"
    if isinstance(thing, type | FunctionType) and "<" not in thing.__qualname__:
        return _name(thing)
    return repr(thing)


def _name(thing: type | FunctionType) -> str:
    """Returns the name of a class or function with a digest of its source, because users may change their own."""
    source = b""
    for part in thing.__mro__ if isinstance(thing, type) else (thing,):
        with suppress(TypeError, OSError):  # built in, or typed into an interpreter
            source += Path(inspect.getfile(part)).read_bytes()
    return f"{thing.__module__}.{thing.__qualname__}@{_digest(source)}"


def _digest(data: bytes) -> str:
    return hashlib.blake2b(data, digest_size=8).hexdigest()


@lru_cache(maxsize=1)
def _common_attributes() -> frozenset[str]:
    """Returns the attributes that every transform or composition has: generators, processors, last parameters."""
    inner = albumentations.Sequential([albumentations.NoOp()])
    albumentations.Compose([inner])
    return frozenset({*vars(inner), *vars(inner.transforms[0])} - {"p", "transforms"})
