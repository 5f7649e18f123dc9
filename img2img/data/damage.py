"""Damage that an image has once and for all, as photographs have it of which no clean version exists."""

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

from img2img.data.folders import Source
from img2img.data.pairs import Transform, compose, corrupt
from img2img.data.stream import draws_of_image
from img2img.imaging.files import to_float


class FixedDamage:
    """Damages whole images by (seed, name) alone, for the decoded-image cache to store: its `Finish`.

    Args:
        transforms: What damages; holes that they mark are not passed on.
        seed: Seed of the draws.
        source: Says the images' names.
    """

    def __init__(self, transforms: Sequence[Transform], seed: int, source: Source) -> None:
        self.pipeline, self.seed, self.source = compose(transforms), seed, source
        # Described after composing, which sets some attributes of its transforms.
        self.description = f"{albumentations.__version__}: {describe(self.pipeline)}"

    def key(self, path: Path) -> str:
        """Returns what the result depends on: transforms and their arguments, seed, name."""
        return f"{self.description}|{self.seed}|{self.source.name(path)}"

    def __call__(self, path: Path, pixels: NDArray[Any]) -> NDArray[np.float32]:
        """Returns the damaged image, H×W×C float32, not clipped.

        Raises:
            UserError: If the damage changed the size.
        """
        pipeline = copy.deepcopy(self.pipeline)  # each thread draws from generators of its own
        return corrupt(pipeline, to_float(pixels), draws_of_image(self.seed, self.source.name(path)))[0]


def describe(thing: Any) -> str:
    """Returns all that says what a transform does, in the same words in every process.

    albumentations' own `to_dict` leaves out arguments that a transform keeps under other names than it takes them.
    What only has a memory address (a lambda, say) is described by it, and so by other words in another process.
    """
    if isinstance(thing, albumentations.BasicTransform | albumentations.BaseCompose):
        said = {name: value for name, value in vars(thing).items() if name not in _says_nothing()}
        return f"{_name(type(thing))}({describe(said)})"
    if isinstance(thing, dict):
        return "{" + ", ".join(f"{describe(key)}: {describe(value)}" for key, value in thing.items()) + "}"
    if isinstance(thing, list | tuple | set | frozenset):
        parts = [describe(part) for part in thing]
        return f"[{', '.join(parts if isinstance(thing, list | tuple) else sorted(parts))}]"
    if isinstance(thing, np.ndarray):  # whose repr leaves out the middle
        return f"{thing.dtype}{thing.shape}{_digest(thing.tobytes())}"
    if isinstance(thing, type | FunctionType) and "<" not in thing.__qualname__:
        return _name(thing)
    return repr(thing)


def _name(thing: type | FunctionType) -> str:
    """Returns the name of a class or function with a digest of its source, which may be one's own and change."""
    source = b""
    for part in thing.__mro__ if isinstance(thing, type) else (thing,):
        with suppress(TypeError, OSError):  # built in, or typed into an interpreter
            source += Path(inspect.getfile(part)).read_bytes()
    return f"{thing.__module__}.{thing.__qualname__}@{_digest(source)}"


def _digest(data: bytes) -> str:
    return hashlib.blake2b(data, digest_size=8).hexdigest()


@lru_cache(maxsize=1)
def _says_nothing() -> frozenset[str]:
    """Returns the attributes that any transform or composition has: generators, processors, last parameters."""
    inner = albumentations.Sequential([albumentations.NoOp()])
    albumentations.Compose([inner])
    return frozenset({*vars(inner), *vars(inner.transforms[0])} - {"p", "transforms"})
