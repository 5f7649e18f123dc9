"""Estimates how much memory a network needs for an image, if possible without running it."""

from __future__ import annotations

import copy
import weakref
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

SAFETY = 1.5
"""Factor on the counted bytes of tensors: kernels copy some of them to layouts of their own, and allocators keep pieces
that they cannot reuse. On a CPU, in channels_last, the process grew by 0.95 to 1.36 times the count for our networks
and a ResNet-18 U-Net; in contiguous layout, which tasks do not use, by up to 2.6."""
SIDE = 512
"""Side in pixels of the smaller of two test images on the meta device, where nothing is computed."""
SMALL_SIDE = 128
"""The same on the CPU, where the network really runs."""


def bytes_per_pixel(network: nn.Module, in_channels: int, dtype: torch.dtype = torch.float32) -> float:
    """Returns the peak memory per input pixel of a forward pass without gradients, weights excluded.

    Counts the storages that live at the same time, on torch's meta device, where tensors have shapes but no contents;
    a network that fails there runs on small images on the CPU. The input counts too. Where memory grows faster than the
    image, as with attention, the result holds only for an image of about 512×512 pixels.

    Args:
        network: Maps N×C×H×W to an image, for sides that are multiples of 128. It is not changed.
        in_channels: C.
        dtype: Type in which the network computes.

    Returns:
        Bytes per pixel, `SAFETY` included.
    """
    for device, side in (("meta", SIDE), ("cpu", SMALL_SIDE)):
        placed = copy.deepcopy(network).eval().to(device, dtype)
        try:
            small = _peak(placed, torch.empty(1, in_channels, side, side, dtype=dtype, device=device))
            large = _peak(placed, torch.empty(1, in_channels, side, 2 * side, dtype=dtype, device=device))
        except Exception:
            if device == "cpu":
                raise
            continue  # operations that need contents, or tensors that a network puts on the CPU itself
        return SAFETY * (large - small) / side**2
    raise AssertionError("unreachable")


def _peak(network: nn.Module, image: Tensor) -> int:
    """Returns the most bytes that tensors hold at the same time while `image` goes through `network`."""
    with torch.no_grad(), _LiveStorages([*network.parameters(), *network.buffers()]) as live:
        live.count(image)
        network(image)
    peak: int = live.peak
    return peak


class _LiveStorages(TorchDispatchMode):  # type: ignore[no-untyped-call]  # torch's modes are untyped
    """Adds up the storages of the tensors that operations return, until they are freed.

    Args:
        known: Tensors that are not counted, nor are views of them.
    """

    def __init__(self, known: Iterable[Tensor]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.alive, self.peak = 0, 0
        self.seen = weakref.WeakSet(tensor.untyped_storage() for tensor in known)

    def count(self, tensor: Tensor) -> None:
        """Counts a tensor's storage once, until it is freed."""
        storage = tensor.untyped_storage()
        if storage in self.seen:
            return
        self.seen.add(storage)
        size = storage.nbytes()
        self.alive += size
        self.peak = max(self.peak, self.alive)
        weakref.finalize(storage, self._free, size)

    def _free(self, size: int) -> None:
        self.alive -= size

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        for value in result if isinstance(result, tuple | list) else (result,):
            if isinstance(value, Tensor):
                self.count(value)
        return result
