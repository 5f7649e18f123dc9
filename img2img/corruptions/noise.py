"""Noise as the field's benchmarks define it: unclipped, unless `Clip` follows."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np

from img2img.corruptions.base import LUMA, Float, FloatTransform, Range


class GaussianNoise(FloatTransform):
    """Adds white Gaussian noise and does **not** clip, as the denoising benchmarks do.

    `albumentations.GaussNoise` clips to [0, 1], which shifts the mean of dark and bright regions; published results are
    for unclipped noise.

    Args:
        sigma: Standard deviation in 8-bit units (25 means 25/255), or a range.
        p: Probability of applying it.
        map_size: If given, sigma varies smoothly over the image (Zhang et al., "FFDNet", IEEE TIP 2018, test such
            spatially variant noise): map_size × map_size sigmas are drawn from the range and enlarged to the image.
        match_gray: Gives all channels of an image without colour the same noise, like a gray photograph saved as RGB.
            With `ToGray` in the shared geometry, one model then learns both.

    Raises:
        ValueError: If sigma is negative, its range is reversed or map_size is less than 1.
    """

    def __init__(
        self, sigma: Range = (0.0, 55.0), p: float = 1.0, map_size: int | None = None, match_gray: bool = False
    ) -> None:
        super().__init__(p, sigma=sigma)
        if map_size is not None and map_size < 1:
            raise ValueError(f"map_size must be at least 1, or None for one sigma everywhere, not {map_size}")
        self.map_size, self.match_gray = map_size, match_gray

    def corrupt(self, img: Float, sigma: float = 0.0, **params: Any) -> Float:
        """Returns img + noise."""
        scale = np.float32(sigma / 255) if self.map_size is None else self._sigma_map(img, self.map_size) / 255
        noise = self._normal(img.shape)
        if self.match_gray and (img == img[..., :1]).all():
            noise[:] = noise[..., :1].copy()
        noise *= scale
        noise += img
        return noise

    def _sigma_map(self, img: Float, size: int) -> Float:
        low, high = self.sigma
        coarse = self.random_generator.uniform(low, high, (size, size)).astype(np.float32)
        smooth = cv2.resize(coarse, img.shape[1::-1], interpolation=cv2.INTER_CUBIC)
        # Cubic interpolation overshoots, but sigma must neither leave its range nor become negative.
        sigmas: Float = np.clip(smooth, low, high)
        return sigmas[..., None] if img.ndim == 3 else sigmas


class CorrelatedNoise(FloatTransform):
    """Adds spatially correlated Gaussian noise: white noise, blurred, scaled back to its sigma.

    Demosaicked, denoised or enlarged photographs and scanned film have such noise, and networks trained on white noise
    do not remove it.

    Args:
        sigma: Standard deviation in 8-bit units, or a range.
        radius: Standard deviation of the Gaussian blur, in pixels, or a range.
        p: Probability of applying it.

    Raises:
        ValueError: If a number is negative or a range is reversed.
    """

    def __init__(self, sigma: Range = (0.0, 55.0), radius: Range = (0.5, 2.0), p: float = 1.0) -> None:
        super().__init__(p, sigma=sigma, radius=radius)

    def corrupt(self, img: Float, sigma: float = 0.0, radius: float = 0.0, **params: Any) -> Float:
        """Returns img + noise."""
        return img + self._shared(img.shape, sigma, radius)

    def _shared(self, shape: tuple[int, ...], sigma: float, radius: float) -> Float:
        (height, width, channels), reach = shape, int(np.ceil(4 * radius))
        kernel = cv2.getGaussianKernel(2 * reach + 1, max(radius, 1e-6), cv2.CV_32F)
        # The margin avoids padding at the border, which would change the variance there.
        white = self._normal((height + 2 * reach, width + 2 * reach, channels))
        blurred = cv2.sepFilter2D(white, -1, kernel, kernel).reshape(white.shape)
        noise = blurred[reach : reach + height, reach : reach + width]
        gain = float((kernel**2).sum())  # of the variance along one axis; both axes: squared
        return noise * np.float32(sigma / 255 / gain)


class ChromaNoise(CorrelatedNoise):
    """Adds blotches of colour: spatially correlated noise that leaves the luma (Rec. 601) unchanged.

    Phones and older cameras leave such noise in the shadows, where their own noise reduction spares the luma.

    Args:
        sigma: Standard deviation in 8-bit units of each channel before the luma is removed, or a range.
        radius: Standard deviation of the Gaussian blur, in pixels, or a range.
        p: Probability of applying it.

    Raises:
        ValueError: If a number is negative or a range is reversed.
    """

    def __init__(self, sigma: Range = (0.0, 25.0), radius: Range = (1.0, 3.0), p: float = 1.0) -> None:
        super().__init__(sigma, radius, p)

    def corrupt(self, img: Float, sigma: float = 0.0, radius: float = 0.0, **params: Any) -> Float:
        """Returns img + noise; a gray image, which has no colour, stays unchanged."""
        if img.shape[2] != 3:
            return img.copy()
        noise = self._shared(img.shape, sigma, radius)
        luma = noise @ LUMA
        return img + noise - luma[..., None]


class PoissonGaussianNoise(FloatTransform):
    """Adds a camera's shot noise (Poisson) and read noise (Gaussian): variance = gain·x + read².

    Foi et al., "Practical Poissonian-Gaussian noise modeling", IEEE TIP 2008; x is assumed to be proportional to light,
    as in raw images.

    Args:
        gain: Brightness of one photon in 8-bit units, or a range: 1 means that white (255) is 255 photons.
        read: Standard deviation of the read noise in 8-bit units, or a range.
        p: Probability of applying it.

    Raises:
        ValueError: If a number is negative or a range is reversed.
    """

    def __init__(self, gain: Range = (0.1, 4.0), read: Range = (0.0, 10.0), p: float = 1.0) -> None:
        super().__init__(p, gain=gain, read=read)

    def corrupt(self, img: Float, gain: float = 0.0, read: float = 0.0, **params: Any) -> Float:
        """Returns the noisy image; negative values, which other noise may have left, get no shot noise."""
        counted = img
        if gain > 0:
            photons = self.random_generator.poisson(np.maximum(img, 0) * (255 / gain))
            counted = photons.astype(np.float32) * np.float32(gain / 255) + np.minimum(img, 0)
        return counted + self._normal(img.shape) * np.float32(read / 255)


class SpeckleNoise(FloatTransform):
    """Multiplies by 1 + noise, as in ultrasound and radar: x + x·n with n Gaussian (MATLAB's `imnoise`, "speckle").

    Args:
        sigma: Standard deviation of n, or a range; 0.1 is a tenth of the brightness.
        p: Probability of applying it.

    Raises:
        ValueError: If sigma is negative or its range is reversed.
    """

    def __init__(self, sigma: Range = (0.0, 0.4), p: float = 1.0) -> None:
        super().__init__(p, sigma=sigma)

    def corrupt(self, img: Float, sigma: float = 0.0, **params: Any) -> Float:
        """Returns img · (1 + noise)."""
        return img * (1 + self._normal(img.shape) * np.float32(sigma))


class Clip(FloatTransform):
    """Clips to [0, 1] and rounds to the levels of a file, as saving a photograph does.

    After unclipped noise, this gives the clipped variant.

    Args:
        levels: Levels to round to: 256 for 8 bits, 65536 for 16; None for no rounding.
        p: Probability of applying it.

    Raises:
        ValueError: If there are fewer than two levels.
    """

    unclipped = False

    def __init__(self, levels: int | None = 256, p: float = 1.0) -> None:
        super().__init__(p=p)
        if levels is not None and levels < 2:
            raise ValueError(f"levels must be at least 2, not {levels}")
        self.levels = levels

    def corrupt(self, img: Float, **params: Any) -> Float:
        """Returns the image as a file would hold it."""
        clipped = np.clip(img, 0, 1)
        if self.levels is None:
            return clipped
        steps = np.float32(self.levels - 1)
        return np.divide(np.round(clipped * steps), steps, dtype=np.float32)
