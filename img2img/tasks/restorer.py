"""Restoring: what a trained task does with images of any size, depth and number of channels."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from typing import ClassVar, overload

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from img2img.errors import UserError
from img2img.imaging.values import Pixels, from_float, to_float
from img2img.networks import Reach, bytes_per_pixel, reach_of
from img2img.tasks.base import Batch, Task
from img2img.tasks.colour import luma
from img2img.tasks.tiled import Planner, restore_in_tiles


class Restorer(Task):
    """A task whose network makes an image of an image."""

    needs_mask: ClassVar[bool] = False
    """Whether `restore` has to be told what is missing."""
    estimates_sigma: ClassVar[bool] = False
    """Whether it knows how sure it is, and heeds `uncertainty`."""
    uncertainty: bool = False
    """Whether `restore_tile` is to give one channel more: σ of the error, in units of the pixel range."""
    ensemble: int = 0
    """The network's stride, where `restore` is to average over eight symmetries; 0 where not."""

    @cached_property
    def reach(self) -> Reach | None:
        """How far the network sees; None where no halo makes tiling exact."""
        return reach_of(self.network, self.network_inputs)

    @cached_property
    def bytes_per_pixel(self) -> float:
        """What the network takes of memory for each pixel of an RGB image."""
        # A gray network restores the channels of RGB as a batch.
        return bytes_per_pixel(self.network, self.network_inputs) * max(1, 3 // self.in_channels)

    def predict_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Returns the restored tiles, N×C×H×W in [0, 1]; none for files that cannot be read."""
        # Not None, of which Lightning would warn.
        return self.restore_tile(batch["input"], batch.get("mask")) if "input" in batch else torch.empty(0)

    @overload
    def restore(
        self, image: Tensor, mask: Tensor | None = None, memory: int | None = None, tile: int | None = None
    ) -> Tensor: ...

    @overload
    def restore(
        self, image: Pixels, mask: Pixels | None = None, memory: int | None = None, tile: int | None = None
    ) -> Pixels: ...

    @torch.inference_mode()
    def restore(
        self,
        image: Tensor | Pixels,
        mask: Tensor | Pixels | None = None,
        memory: int | None = None,
        tile: int | None = None,
    ) -> Tensor | Pixels:
        """Restores images that are in memory, in tiles where they are large.

        Args:
            image: One image as NumPy and Pillow hold it, H×W or H×W×C of uint8, uint16, or float32 in [0, 1]; or a
                tensor N×C×H×W float32 in [0, 1] on the task's device. C = 1 or 3; of three, red comes first.
            mask: For tasks with `needs_mask`: an array H×W, anything but 0 where the image is missing; or a tensor
                N×1×H×W, 1 where it is.
            memory: Bytes to take; None for half of what is free, at most 2 GB.
            tile: Side of the tiles in pixels; None to choose by memory.

        Returns:
            Of the same kind, type and number of axes, `scale` times as high and wide; H×W×3 or N×3×H×W if the task
            makes colour of gray.

        Raises:
            UserError: If the image has another shape or type.
        """
        if isinstance(image, np.ndarray):
            holes = None if mask is None else torch.from_numpy(np.asarray(mask) != 0).float()[None, None]
            restored = self.restore(_batch_of(image).to(self.device), holes, memory, tile)
            pixels = from_float(restored[0].permute(1, 2, 0).cpu().numpy(), image.dtype)
            return pixels[..., 0] if image.ndim == 2 and pixels.shape[2] == 1 else pixels
        holes = None if mask is None else torch.as_tensor(mask)
        tiling = Planner(self, image.device, memory, tile)(*image.shape[-2:])
        parts = []
        for n in range(len(image)):
            hole = None if holes is None else holes[n : n + 1]
            parts.append(restore_in_tiles(self, image[n : n + 1], hole, tiling))
        return torch.cat(parts)

    def restore_tile(self, image: Tensor, mask: Tensor | None = None) -> Tensor:
        """Restores images that fit the memory; where `ensemble` is set as the mean over eight symmetries.

        "Geometric self-ensemble", Lim et al., "Enhanced deep residual networks", CVPR workshops 2017.

        Args:
            image: N×C×H×W float32 in [0, 1], C = 1 or 3.
            mask: N×1×H×W, 1 where the image is missing; for tasks with `needs_mask`.

        Returns:
            As many channels of (scale·H)×(scale·W), in [0, 1]; three if the network makes colour of gray; σ as one
            more where `uncertainty` is set.
        """
        if not self.ensemble:
            return self.restore_once(image, mask)
        # Padded to the network's stride first: mirrored, its grid lies the same way, in tiles as in whole images.
        height, width = image.shape[-2:]
        padding = (0, -width % self.ensemble, 0, -height % self.ensemble)
        images = F.pad(image, padding, mode="replicate")
        masks = None if mask is None else F.pad(mask, padding, mode="replicate")
        total: Tensor | float = 0.0
        for symmetry in range(8):
            turned = None if masks is None else _turned(masks, symmetry)
            total = total + _turned_back(self.restore_once(_turned(images, symmetry), turned), symmetry)
        mean: Tensor = total / 8  # type: ignore[assignment]
        return mean[..., : height * self.scale, : width * self.scale]

    def restore_once(self, image: Tensor, mask: Tensor | None = None) -> Tensor:
        """Restores gray or RGB images with a network for either, in one go.

        A colour network sees a gray image as equal channels, and the luma of its output is taken (Rec. 601); a gray
        network restores each channel of a colour image by itself.

        Args:
            image: As in `restore_tile`.
            mask: As in `restore_tile`.

        Returns:
            As `restore_tile`.
        """
        return self.adapt(self, image, mask)

    def adapt(self, restore: Callable[..., Tensor], image: Tensor, mask: Tensor | None = None) -> Tensor:
        """Lets gray or RGB images go through what takes one of both only, see `restore_once`.

        Args:
            restore: Takes images with the network's number of channels, and the masks if there are any. For N images it
                gives N, or 2·N: whatever else there is to say of each value, in the same order.
            image: As in `restore_tile`.
            mask: As in `restore_tile`.

        Returns:
            As many as `restore` gives, with the image's channels; with three if it makes colour of gray.
        """
        channels, wanted = image.shape[1], self.in_channels
        masks = () if mask is None else (mask,)
        if channels == wanted:
            return restore(image, *masks)
        if channels == 1:
            coloured = restore(image.expand(-1, wanted, -1, -1), *masks)
            return luma(coloured) if coloured.shape[1] == 3 else coloured
        restored = restore(image.flatten(0, 1)[:, None], *(each.repeat_interleave(channels, 0) for each in masks))
        if restored.shape[1] == 3:  # it makes colour of gray
            return restore(luma(image), *masks)
        return restored.view(-1, channels, *restored.shape[-2:])


def _batch_of(array: Pixels) -> Tensor:
    """Returns H×W or H×W×C as 1×C×H×W float32 in [0, 1].

    Raises:
        UserError: If it has another shape or dtype.
    """
    if array.ndim not in (2, 3) or (array.ndim == 3 and array.shape[2] not in (1, 3)):
        raise UserError(f"an image is H×W, H×W×1 or H×W×3, not {'×'.join(map(str, array.shape))}")
    try:
        values = to_float(array)
    except ValueError as error:
        raise UserError(str(error)) from error
    return torch.from_numpy(np.atleast_3d(values)).permute(2, 0, 1)[None]


def _turned(image: Tensor, symmetry: int) -> Tensor:
    """Returns N×C×H×W turned by a number of quarters, and from the fourth on mirrored as well."""
    turned = torch.rot90(image, symmetry % 4, (2, 3))
    return turned.flip(3) if symmetry >= 4 else turned


def _turned_back(image: Tensor, symmetry: int) -> Tensor:
    """Undoes `_turned`."""
    return torch.rot90(image.flip(3) if symmetry >= 4 else image, -(symmetry % 4), (2, 3))
