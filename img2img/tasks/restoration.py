"""The restoration task: a network maps the corrupted input to the clean target."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property, partial
from typing import Any, TypeVar

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from img2img.errors import UserError
from img2img.imaging.values import Pixels, from_float, to_float
from img2img.networks import ReceptiveField, RestorationUNet, bytes_per_pixel, receptive_field_of
from img2img.tasks.colour import luma
from img2img.tasks.losses import Charbonnier
from img2img.tasks.metrics import Metric
from img2img.tasks.paired import PairedTask
from img2img.tasks.symmetries import mean_over_symmetries
from img2img.tiling.planner import Planner
from img2img.tiling.stitch import restore_in_tiles

LARGEST = 8.0
"""Larger floats are not an image in [0, 1], however noisy: most likely it is in [0, 255]."""

Kind = TypeVar("Kind", Tensor, Pixels, Image.Image)
"""How images in memory are held; a result is of the same kind."""


class Restoration(PairedTask):
    """Trains a network to undo the corruption of its input, and restores images of any size; see `PairedTask`.

    Args:
        network: Any module that maps N×C×H×W to the same shape; None for `RestorationUNet()`.
        loss: Any module that maps (output, target) to a scalar; None for `Charbonnier()`.
        metrics: Metrics beside PSNR and SSIM. The first, if any, is shown in captions and in the last line.
        hole_loss: Computes the loss over the masked pixels only; it must compare pixel by pixel. With `BlindSpots` as
            the corruption of noisy images this is Noise2Void (Krull et al., CVPR 2019), whose loss is `MSELoss`.
        kwargs: Arguments of every `Task`.
    """

    needs_mask: bool = False
    """Whether it needs a mask of the missing pixels."""
    estimates_sigma: bool = False
    """Whether it can estimate the error of each pixel."""

    def __init__(
        self,
        network: nn.Module | None = None,
        loss: nn.Module | None = None,
        metrics: list[Metric] | None = None,
        hole_loss: bool = False,
        **kwargs: Any,
    ) -> None:
        network, loss = RestorationUNet() if network is None else network, Charbonnier() if loss is None else loss
        super().__init__(network, loss, metrics, hole_loss, **kwargs)

    @cached_property
    def receptive_field(self) -> ReceptiveField | None:
        """The network's receptive field; None if no halo makes tiling exact."""
        return receptive_field_of(self.network, self.network_inputs)

    @cached_property
    def bytes_per_pixel(self) -> float:
        """Memory that the network needs for each pixel of an RGB image."""
        # A gray network restores the channels of RGB as a batch.
        return bytes_per_pixel(self.network, self.network_inputs) * max(1, 3 // self.in_channels)

    @torch.inference_mode()
    def restore(
        self,
        image: Kind,
        mask: Tensor | Pixels | Image.Image | None = None,
        memory: int | None = None,
        tile: int | None = None,
    ) -> Kind:
        """Restores images in memory; large ones in tiles.

        Args:
            image: One image as NumPy and Pillow hold it: H×W or H×W×C of uint8, uint16, or floats in [0, 1], or a
                Pillow image of mode L or RGB; or a tensor on the task's device, N×C×H×W or C×H×W float32 in [0, 1].
                C = 1 or 3; three are RGB.
            mask: For tasks with `needs_mask`: an array H×W or a Pillow image, nonzero where the image is missing; or a
                tensor N×1×H×W, 1 where it is missing.
            memory: Bytes to use; None for half of the free memory, at most 3 GB.
            tile: Side of the tiles in pixels; None to choose by memory.

        Returns:
            The restored image, of the same kind, type and number of axes, `scale` times as high and wide; with three
            channels if the task colourises.

        Raises:
            UserError: If the image has another shape, type or range of values.
        """
        if isinstance(image, Image.Image):
            if image.mode not in ("L", "RGB"):
                raise UserError(f"an image of mode {image.mode} cannot be restored; convert it to L or RGB")
            array = None if mask is None else np.asarray(mask)
            return Image.fromarray(self.restore(np.asarray(image), array, memory, tile))
        if isinstance(image, np.ndarray):
            holes = None if mask is None else torch.from_numpy(np.asarray(mask) != 0).float()[None, None]
            restored = self.restore(_batch_of(image).to(self.device), holes, memory, tile)
            dtype = np.float32 if image.dtype.kind == "f" else image.dtype
            pixels = from_float(restored[0].permute(1, 2, 0).cpu().numpy(), dtype).astype(image.dtype, copy=False)
            return pixels[..., 0] if image.ndim == 2 and pixels.shape[2] == 1 else pixels
        if not isinstance(image, Tensor) or image.ndim not in (3, 4):
            what = f"a tensor of {image.ndim} axes" if isinstance(image, Tensor) else f"a {type(image).__name__}"
            raise UserError(
                f"{what} is not an image: give an array, a Pillow image or a tensor; for files, use img2img.restore"
            )
        if image.numel() and float(image.max()) > LARGEST:
            raise UserError(f"tensors are taken as [0, 1], and this one has {float(image.max()):g}: divide it by 255")
        holes = None if mask is None else torch.as_tensor(mask)
        if image.ndim == 3:
            hole = holes if holes is None or holes.ndim == 4 else holes[None]
            return self.restore(image[None], hole, memory, tile)[0]
        tiling = Planner(self, image.device, memory, tile)(*image.shape[-2:])
        parts = []
        for n in range(len(image)):
            hole = None if holes is None else holes[n : n + 1]
            parts.append(restore_in_tiles(self, image[n : n + 1], hole, tiling))
        return torch.cat(parts)

    def restore_tile(
        self, image: Tensor, mask: Tensor | None = None, self_ensemble: bool = False, uncertainty: bool = False
    ) -> Tensor:
        """Restores images that fit into memory.

        Args:
            image: N×C×H×W float32 in [0, 1], C = 1 or 3.
            mask: N×1×H×W, 1 where the image is missing; for tasks with `needs_mask`.
            self_ensemble: Whether to return the mean over eight symmetries.
            uncertainty: Whether to return σ of the error as one more channel; for tasks with `estimates_sigma`.

        Returns:
            N×C×(scale·H)×(scale·W) in [0, 1]; three channels if the network colourises.
        """
        restore = partial(self.restore_once, uncertainty=uncertainty)
        if not self_ensemble:
            return restore(image, mask)
        stride = 1 if self.receptive_field is None else self.receptive_field.stride
        return mean_over_symmetries(restore, image, mask, stride, self.scale)

    def restore_once(self, image: Tensor, mask: Tensor | None = None, uncertainty: bool = False) -> Tensor:
        """Restores gray or RGB images with a network for either, in one pass; otherwise as `restore_tile`."""
        return through_channels(self, image, mask, self.in_channels)


def through_channels(restore: Callable[..., Tensor], image: Tensor, mask: Tensor | None, channels: int) -> Tensor:
    """Runs gray or RGB images through a network that takes only one of them.

    A colour network gets a gray image as equal channels, and the result is the luma of its output (Rec. 601); a gray
    network restores each channel of a colour image separately.

    Args:
        restore: Takes images with the network's number of channels, and the masks if there are any. For N images it
            returns N, or 2·N: the images, then a second estimate for each of their values, in the same order.
        image: N×C×H×W, C = 1 or 3.
        mask: N×1×H×W, or None.
        channels: The network's number of channels.

    Returns:
        As many images as `restore` returns, with C channels; with three if the network colourises.
    """
    given, masks = image.shape[1], () if mask is None else (mask,)
    if given == channels:
        return restore(image, *masks)
    if given == 1:
        coloured = restore(image.expand(-1, channels, -1, -1), *masks)
        return luma(coloured) if coloured.shape[1] == 3 else coloured
    restored = restore(image.flatten(0, 1)[:, None], *(each.repeat_interleave(given, 0) for each in masks))
    if restored.shape[1] == 3:  # the network colourises
        return restore(luma(image), *masks)
    return restored.view(-1, given, *restored.shape[-2:])


def _batch_of(array: Pixels) -> Tensor:
    """Returns H×W or H×W×C as 1×C×H×W float32 in [0, 1]."""
    if array.ndim not in (2, 3) or (array.ndim == 3 and array.shape[2] not in (1, 3)):
        raise UserError(f"an image is H×W, H×W×1 or H×W×3, not {'×'.join(map(str, array.shape))}")
    try:
        values = to_float(array.astype(np.float32) if array.dtype in (np.float64, np.float16) else array)
    except ValueError as error:
        raise UserError(str(error)) from error
    if array.dtype.kind == "f" and array.size and float(np.nanmax(values)) > LARGEST:
        raise UserError(f"floats are taken as [0, 1], and this image has {np.nanmax(values):g}: divide it by 255")
    return torch.from_numpy(np.atleast_3d(values)).permute(2, 0, 1)[None]
