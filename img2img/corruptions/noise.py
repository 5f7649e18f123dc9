"""Noise as the field's benchmarks define it: unclipped, unless `Clip` follows."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any

import cv2
import numpy as np
from albumentations import ImageOnlyTransform
from numpy.typing import NDArray

Range = float | tuple[float, float]
"""A number, or a range from which one is drawn uniformly, anew for each image."""


class _FloatTransform(ImageOnlyTransform):
    """What all share: float32 in, float32 out, values that may leave [0, 1].

    Place them last: most albumentations transforms clip to [0, 1]. `p` is 1, unlike in albumentations, where forgetting
    it leaves half the images clean.
    """

    unclipped = True

    def __init__(self, p: float = 1.0, **ranges: Range) -> None:
        super().__init__(p=p)
        self._ranges = tuple(ranges)
        for name, given in ranges.items():  # attributes, for albumentations shows a transform by its arguments' names
            setattr(self, name, _bounds(name, given))

    def get_params(self) -> dict[str, Any]:
        """Draws a number from each range, for `corrupt`."""
        return {name: float(self.random_generator.uniform(*getattr(self, name))) for name in self._ranges}

    def apply(self, img: NDArray[np.float32], **params: Any) -> NDArray[np.float32]:
        """Returns H×W×C float32, not clipped.

        Raises:
            TypeError: If the image is not float32, whose integer types could not hold unclipped noise.
        """
        if img.dtype != np.float32:
            raise TypeError(f"{type(self).__name__} needs a float32 image in [0, 1], not {img.dtype}")
        return self.corrupt(img, **params)

    @abstractmethod
    def corrupt(self, img: NDArray[np.float32], **params: Any) -> NDArray[np.float32]:
        """Returns the corrupted image, H×W×C float32."""

    def _normal(self, shape: tuple[int, ...]) -> NDArray[np.float32]:
        normal: NDArray[np.float32] = self.random_generator.standard_normal(shape, dtype=np.float32)
        return normal


class GaussianNoise(_FloatTransform):
    """Adds white Gaussian noise and does **not** clip, as the denoising benchmarks do.

    `albumentations.GaussNoise` clips to [0, 1], which shifts the mean of dark and bright regions: another task than
    the one of the published tables.

    Args:
        sigma: Standard deviation in 8-bit units (25 means 25/255), or a range.
        p: Probability of applying it.

    Raises:
        ValueError: If sigma is negative or its range is reversed.
    """

    def __init__(self, sigma: Range = (0.0, 55.0), p: float = 1.0) -> None:
        super().__init__(p, sigma=sigma)

    def corrupt(self, img: NDArray[np.float32], sigma: float = 0.0, **params: Any) -> NDArray[np.float32]:
        """Returns img + noise."""
        noise = self._normal(img.shape)
        noise *= np.float32(sigma / 255)
        noise += img
        return noise


class CorrelatedNoise(_FloatTransform):
    """Adds Gaussian noise that neighbouring pixels share: white noise, blurred, scaled back to its sigma.

    The noise of demosaicked, denoised or enlarged photographs and of scanned film is of this kind, and networks trained
    on white noise leave it in.

    Args:
        sigma: Standard deviation in 8-bit units, or a range.
        radius: Standard deviation of the Gaussian blur, in pixels, or a range.
        p: Probability of applying it.

    Raises:
        ValueError: If a number is negative or a range is reversed.
    """

    def __init__(
        self,
        sigma: Range = (0.0, 55.0),
        radius: Range = (0.5, 2.0),
        p: float = 1.0,
    ) -> None:
        super().__init__(p, sigma=sigma, radius=radius)

    def corrupt(
        self, img: NDArray[np.float32], sigma: float = 0.0, radius: float = 0.0, **params: Any
    ) -> NDArray[np.float32]:
        """Returns img + noise."""
        reach = int(np.ceil(4 * radius))
        kernel = cv2.getGaussianKernel(2 * reach + 1, max(radius, 1e-6), cv2.CV_32F)
        # The margin spares the border a padding, which would change the variance there.
        height, width, channels = img.shape
        white = self._normal((height + 2 * reach, width + 2 * reach, channels))
        blurred = cv2.sepFilter2D(white, -1, kernel, kernel).reshape(white.shape)
        noise = blurred[reach : reach + height, reach : reach + width]
        gain = float((kernel**2).sum())  # of the variance along one axis; both axes: squared
        result: NDArray[np.float32] = img + noise * np.float32(sigma / 255 / gain)
        return result


class PoissonGaussianNoise(_FloatTransform):
    """A camera's noise: photons counted (shot noise) and read out (Gaussian), variance = gain·x + read².

    Foi et al., "Practical Poissonian-Gaussian noise modeling", IEEE TIP 2008; x is taken as proportional to light, as
    in raw images.

    Args:
        gain: Brightness of one photon in 8-bit units, or a range: 1 means that white (255) is 255 photons.
        read: Standard deviation of the read noise in 8-bit units, or a range.
        p: Probability of applying it.

    Raises:
        ValueError: If a number is negative or a range is reversed.
    """

    def __init__(
        self,
        gain: Range = (0.1, 4.0),
        read: Range = (0.0, 10.0),
        p: float = 1.0,
    ) -> None:
        super().__init__(p, gain=gain, read=read)

    def corrupt(
        self, img: NDArray[np.float32], gain: float = 0.0, read: float = 0.0, **params: Any
    ) -> NDArray[np.float32]:
        """Returns the counted and read image; negative values, which other noise may have left, hold no photons."""
        counted = img
        if gain > 0:
            photons = self.random_generator.poisson(np.maximum(img, 0) * (255 / gain))
            counted = photons.astype(np.float32) * np.float32(gain / 255) + np.minimum(img, 0)
        result: NDArray[np.float32] = counted + self._normal(img.shape) * np.float32(read / 255)
        return result


class SpeckleNoise(_FloatTransform):
    """Multiplies by 1 + noise, as in ultrasound and radar: x + x·n with n Gaussian (MATLAB's `imnoise`, "speckle").

    Args:
        sigma: Standard deviation of n, or a range; 0.1 is a tenth of the brightness.
        p: Probability of applying it.

    Raises:
        ValueError: If sigma is negative or its range is reversed.
    """

    def __init__(self, sigma: Range = (0.0, 0.4), p: float = 1.0) -> None:
        super().__init__(p, sigma=sigma)

    def corrupt(self, img: NDArray[np.float32], sigma: float = 0.0, **params: Any) -> NDArray[np.float32]:
        """Returns img · (1 + noise)."""
        result: NDArray[np.float32] = img * (1 + self._normal(img.shape) * np.float32(sigma))
        return result


class Clip(_FloatTransform):
    """Clips to [0, 1] and rounds to the levels of a file: what is left of noise in a photograph that was saved.

    After an unclipped noise it makes the clipped variant of it.

    Args:
        levels: Levels to round to: 256 for 8 bits, 65536 for 16; None not to round.
        p: Probability of applying it.

    Raises:
        ValueError: If there are fewer than two levels.
    """

    def __init__(self, levels: int | None = 256, p: float = 1.0) -> None:
        super().__init__(p=p)
        if levels is not None and levels < 2:
            raise ValueError(f"levels must be at least 2, not {levels}")
        self.levels = levels

    def corrupt(self, img: NDArray[np.float32], **params: Any) -> NDArray[np.float32]:
        """Returns what a file would hold."""
        clipped: NDArray[np.float32] = np.clip(img, 0, 1)
        if self.levels is None:
            return clipped
        steps = np.float32(self.levels - 1)
        rounded: NDArray[np.float32] = np.divide(np.round(clipped * steps), steps, dtype=np.float32)
        return rounded


def _bounds(name: str, given: Range) -> tuple[float, float]:
    low, high = (given, given) if isinstance(given, int | float) else given
    if not 0 <= low <= high:
        raise ValueError(f"{name} must be a number >= 0 or a range [low, high] with low <= high, not {given}")
    return float(low), float(high)
