"""Estimates how much memory a network needs for an image, if possible without running it."""

from __future__ import annotations

import copy
import weakref
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from img2img.errors import UserError

SAFETY = 1.5
"""Factor on the counted bytes of tensors: kernels copy some of them to layouts of their own, and allocators keep pieces
that they cannot reuse. On a CPU, in channels_last, the process grew by 0.95 to 1.36 times the count for our networks
and a ResNet-18 U-Net; in contiguous layout, which tasks do not use, by up to 2.6."""
MOST_FIXED = 1 << 30
"""The most bytes that a network may take whatever the size of the image, as one does that resizes to a fixed size."""
SIDES = {"meta": 512, "cpu": 128}
"""Side in pixels of the smaller of two test images; on the meta device nothing is computed."""


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

    Raises:
        UserError: If the network takes more than `MOST_FIXED` bytes for images of any size.
    """
    for device, side in SIDES.items():
        placed = copy.deepcopy(network).eval().to(device, dtype)
        try:
            small = _peak(placed, torch.empty(1, in_channels, side, side, dtype=dtype, device=device))
            large = _peak(placed, torch.empty(1, in_channels, side, 2 * side, dtype=dtype, device=device))
        except Exception:
            if device == "cpu":
                raise
            continue  # operations that need contents, or tensors that a network puts on the CPU itself
        if (fixed := 2 * small - large) > MOST_FIXED:
            raise UserError(f"the network takes {fixed / 1e9:.1f} GB however small an image is; nothing can be planned")
        return SAFETY * (large - small) / side**2
    raise AssertionError("unreachable")


def training_bytes(network: nn.Module, shape: tuple[int, int, int, int], dtype: torch.dtype = torch.float32) -> int:
    """Returns the peak memory of a forward and backward pass in bytes, weights and optimizer excluded.

    Counts as `bytes_per_pixel` does on the meta device, but without `SAFETY`: a lower bound.

    Args:
        network: Maps N×C×H×W to a tensor. It is not changed.
        shape: N, C, H, W of a batch.
        dtype: Type in which the network computes.

    Raises:
        Exception: Whatever the network raises on the meta device, where tensors have no contents.
    """
    placed = copy.deepcopy(network).to("meta", dtype)
    image = torch.empty(shape, dtype=dtype, device="meta")
    with _LiveStorages([*placed.parameters(), *placed.buffers()]) as live:
        live.count(image)
        placed(image).mean().backward()
    peak: int = live.peak
    return peak


def _peak(network: nn.Module, image: Tensor) -> int:
    """Returns the most bytes that tensors hold at the same time while `image` goes through `network`."""
    with torch.no_grad(), _LiveStorages([*network.parameters(), *network.buffers()]) as live:
        live.count(image)
        network(image)
    peak: int = live.peak
    return peak


class _LiveStorages(TorchDispatchMode):  # type: ignore[no-untyped-call]  # torch's modes are untyped
    """Adds up the storages of the tensors that operations return until they are freed, except those of `known`."""

    def __init__(self, known: Iterable[Tensor]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.alive, self.peak = 0, 0
        self.seen = weakref.WeakSet(tensor.untyped_storage() for tensor in known)

    def count(self, tensor: Tensor) -> None:
        """Counts a tensor's storage, once."""
        storage = tensor.untyped_storage()
        if storage not in self.seen:
            self.seen.add(storage)
            self.alive += storage.nbytes()
            self.peak = max(self.peak, self.alive)
            weakref.finalize(storage, self._free, storage.nbytes())

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
