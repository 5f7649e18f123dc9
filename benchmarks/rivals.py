"""Classical methods to compare with: from OpenCV, scikit-image and the package `bm3d`.

Each takes a batch of one, as validation gives it (`input`, `mask`), and returns 1×C×H×W in [0, 1]. Methods that
work on bytes get the input clamped and rounded to 8 bits; BM3D and scikit-image get it as it is, unclipped.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import cv2
import numpy as np
import torch
from torch import Tensor

Method = Callable[[dict[str, Any]], Tensor]


def as_bytes(image: Tensor) -> np.ndarray:
    """Returns 1×C×H×W as OpenCV needs it: H×W×C uint8, BGR."""
    rgb = (image[0].clamp(0, 1) * 255).round().byte().permute(1, 2, 0).numpy()
    return np.ascontiguousarray(rgb[..., ::-1])


def as_tensor(image: np.ndarray) -> Tensor:
    """Undoes `as_bytes`; takes floats in [0, 1], RGB or gray, too."""
    if image.dtype == np.uint8:
        return torch.from_numpy(np.ascontiguousarray(image[..., ::-1])).permute(2, 0, 1)[None].float() / 255
    return torch.from_numpy(np.atleast_3d(image).astype(np.float32)).permute(2, 0, 1)[None]


def non_local_means(strength: float) -> Method:
    """Returns OpenCV's non-local means (Buades et al. 2005) with h in 8-bit units, other arguments as in its docs."""

    def denoise(batch: dict[str, Any]) -> Tensor:
        seen = as_bytes(batch["input"])
        if seen.shape[2] == 1:
            return as_tensor(cv2.fastNlMeansDenoising(seen, None, strength, 7, 21)[..., None])
        return as_tensor(cv2.fastNlMeansDenoisingColored(seen, None, strength, strength, 7, 21))

    return denoise


def bm3d(sigma: float) -> Method:
    """Returns BM3D, for colour CBM3D (Dabov et al. 2007; the package `bm3d`), told sigma in 8-bit units."""
    import bm3d as package

    def denoise(batch: dict[str, Any]) -> Tensor:
        seen = _floats(batch)
        colour = seen.shape[2] == 3
        return as_tensor(package.bm3d_rgb(seen, sigma / 255) if colour else package.bm3d(seen[..., 0], sigma / 255))

    return denoise


def wavelets(sigma: float) -> Method:
    """Returns scikit-image's wavelet shrinkage (BayesShrink, in YCbCr), told sigma in 8-bit units."""
    from skimage.restoration import denoise_wavelet

    def denoise(batch: dict[str, Any]) -> Tensor:
        seen = np.clip(_floats(batch), 0, 1)  # its colour conversion requires that
        colour = {"convert2ycbcr": True, "channel_axis": -1} if seen.shape[2] == 3 else {"channel_axis": -1}
        return as_tensor(denoise_wavelet(seen, sigma=sigma / 255, rescale_sigma=True, **colour))

    return denoise


def total_variation(weight: float) -> Method:
    """Returns scikit-image's total variation (Chambolle 2004) with a weight in units of the pixel range."""
    from skimage.restoration import denoise_tv_chambolle

    return lambda batch: as_tensor(denoise_tv_chambolle(_floats(batch), weight=weight, channel_axis=-1))


def opencv_inpainting(method: int) -> Method:
    """Returns OpenCV's inpainting with the radius of its examples, 3."""

    def fill(batch: dict[str, Any]) -> Tensor:
        hole = batch["mask"][0, 0].byte().numpy() * 255
        return as_tensor(cv2.inpaint(as_bytes(batch["input"]), hole, 3, method))

    return fill


def _floats(batch: dict[str, Any]) -> np.ndarray:
    """Returns the input as H×W×C float64, not clipped."""
    return batch["input"][0].permute(1, 2, 0).numpy().astype(np.float64)
