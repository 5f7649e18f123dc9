"""Limits for checkpoints of unknown origin: what a file makes of itself in memory must fit its size on the disk.

`torch.load(weights_only=True)` runs no code, but a few kilobytes can unpack to gigabytes.
"""

from __future__ import annotations

import contextlib
import mmap
import zipfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules import module as registration
from torch.overrides import TorchFunctionMode

MOST_PICKLED = 32_000_000
"""The most bytes of plain data beside the tensors; they take 50 times as much in memory."""
MOST_VALUES = 2_000_000
DEEPEST = 200
MOST_MODULES = 100_000
CALLS = 200
"""The most calls of torch for each weight while a network is built."""
SHARED = 4
"""How often weights may share memory, as tied weights do."""


class TooLarge(ValueError):
    """A file stands for much more than it weighs; the message says what."""


def check_archive(path: Path) -> None:
    """Checks a file of `torch.save` before it is read; formats other than zip archives cannot be compressed.

    Raises:
        TooLarge: If the archive is compressed, its parts overlap, its plain data are far larger than any checkpoint's,
            or it makes memory without content.
        zipfile.BadZipFile: If it is a damaged archive.
    """
    with path.open("rb") as file:
        if file.read(4) != b"PK\x03\x04":
            _check_pickle(file)
            return
        if file.seek(0, 2) < 22:
            raise zipfile.BadZipFile("it is too short")
        file.seek(-22, 2)
        if file.read(4) != b"PK\x05\x06":  # a comment could hide a second directory from this reader or the other
            raise zipfile.BadZipFile("something follows the archive")
    with zipfile.ZipFile(path) as archive:
        entries = archive.infolist()
        if any(entry.filename.endswith("/constants.pkl") for entry in entries):
            return  # a TorchScript program, which torch refuses by its name
        if any(entry.compress_type != zipfile.ZIP_STORED for entry in entries):
            raise TooLarge("it is compressed, which checkpoints never are")
        if sum(entry.file_size for entry in entries) > path.stat().st_size:
            raise TooLarge("its parts overlap")
        pickles = [entry for entry in entries if entry.filename.endswith(".pkl")]
        if sum(entry.file_size for entry in pickles) > MOST_PICKLED:
            raise TooLarge(f"it holds more than {MOST_PICKLED // 1_000_000} MB beside its tensors")
        for entry in pickles:
            if b"bytearray\n" in archive.read(entry):
                raise TooLarge("it holds a bytearray, which needs no content for its size")


def _check_pickle(file: Any) -> None:
    file.seek(0, 2)
    if file.tell() > 0:
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
            if content.find(b"bytearray\n") >= 0:
                raise TooLarge("it holds a bytearray, which needs no content for its size")


def check_contents(contents: Any, size: int) -> None:
    """Checks what was read from a file before anything walks or copies it.

    Args:
        contents: Plain data and tensors. A part may be referred to from several places, even from within itself.
        size: Size of the file in bytes.

    Raises:
        TooLarge: If the data are nested too deeply, or repeat too many values; or a tensor is not a plain one, or takes
            more memory than the file has content for.
    """
    tensors = {id(value): value for value in values_in(contents) if isinstance(value, Tensor)}.values()
    for tensor in tensors:
        if tensor.layout != torch.strided or tensor.is_quantized or tensor.device.type != "cpu":
            raise TooLarge("it holds a tensor that is not a plain one: sparse, quantized, or without content")
        if tensor.nbytes > tensor.untyped_storage().nbytes():
            raise TooLarge(f"a tensor of {tuple(tensor.shape)} repeats fewer values")
    if sum(tensor.nbytes for tensor in tensors) > SHARED * size:
        raise TooLarge("its tensors take far more memory than the file")


def values_in(contents: Any, most: int = MOST_VALUES, deepest: int = DEEPEST) -> Iterator[Any]:
    """Yields each value of plain data, those that are referred to several times as often; needs no recursion.

    Args:
        contents: The data.
        most: The most values.
        deepest: The most levels.

    Raises:
        TooLarge: If there are more.
    """
    count, left = 0, [(contents, 0)]
    while left:
        value, depth = left.pop()
        count += 1
        if depth > deepest:
            raise TooLarge("its data are nested too deeply")
        if count > most:
            raise TooLarge(f"its data stand for more than {most} values")
        yield value
        if isinstance(value, dict):
            left += [(part, depth + 1) for part in (*value.keys(), *value.values())]
        elif isinstance(value, list | tuple | set):
            left += [(part, depth + 1) for part in value]


@contextlib.contextmanager
def bounded_building(weights: Iterable[Any]) -> Iterator[None]:
    """Stops the building of modules that are far larger than the weights that come with them.

    Args:
        weights: The values of a state_dict.

    Raises:
        TooLarge: If the modules, weights or calls of torch exceed what such weights need.
    """
    sizes = [value.numel() for value in weights if isinstance(value, Tensor)]
    given, most_calls = sum(sizes), CALLS * (len(sizes) + 300)
    limit = 2 * SHARED * given + 4_000_000
    built = {"modules": 0, "weights": 0, "calls": 0}
    refusal = f"its network would be far larger than the {given} weights that it holds"

    def count(module: nn.Module, name: str, value: Any) -> None:
        built["modules"] += isinstance(value, nn.Module)
        built["weights"] += value.numel() if isinstance(value, Tensor) else 0
        if built["weights"] > limit or built["modules"] > MOST_MODULES:
            raise TooLarge(refusal)

    class Bounded(TorchFunctionMode):
        def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            made = func(*args, **(kwargs or {}))
            built["calls"] += 1  # copies of modules are not registered
            # Before a tensor is filled, which is when it takes memory.
            if built["calls"] > most_calls or (isinstance(made, Tensor) and made.numel() > limit):
                raise TooLarge(refusal)
            return made

    hooks = [
        registration.register_module_parameter_registration_hook(count),
        registration.register_module_buffer_registration_hook(count),
        registration.register_module_module_registration_hook(count),
    ]
    try:
        with Bounded():
            yield
    finally:
        for hook in hooks:
            hook.remove()
