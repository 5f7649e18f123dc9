"""Noise as the field's benchmarks define it."""

from __future__ import annotations

from typing import Any

import numpy as np
from albumentations import ImageOnlyTransform
from numpy.typing import NDArray


class GaussianNoise(ImageOnlyTransform):
    """Adds white Gaussian noise and does **not** clip, as the denoising benchmarks do.

    `albumentations.GaussNoise` clips to [0, 1], which shifts the mean of dark and bright regions: another task than
    the one of the published tables. Place this transform last: later albumentations transforms clip again.

    Args:
        sigma: Standard deviation in 8-bit units (25 means 25/255), or a range from which it is drawn uniformly,
            anew for each image.
        p: Probability of applying it; 1 unlike in albumentations, where forgetting it leaves half the images clean.

    Raises:
        ValueError: If sigma is negative or its range is reversed.
    """

    unclipped = True

    def __init__(self, sigma: float | tuple[float, float] = (0.0, 55.0), p: float = 1.0) -> None:
        super().__init__(p=p)
        low, high = (sigma, sigma) if isinstance(sigma, int | float) else sigma
        if not 0 <= low <= high:
            raise ValueError(f"sigma must be a number >= 0 or a range [low, high] with low <= high, not {sigma}")
        self.sigma = (float(low), float(high))

    def get_params(self) -> dict[str, Any]:
        """Draws sigma, in 8-bit units."""
        return {"sigma": self.random_generator.uniform(*self.sigma)}

    def apply(self, img: NDArray[np.float32], sigma: float = 0.0, **params: Any) -> NDArray[np.float32]:
        """Returns H×W×C float32 = img + noise, not clipped.

        Raises:
            TypeError: If the image is not float32, whose integer types could not hold unclipped noise.
        """
        if img.dtype != np.float32:
            raise TypeError(f"GaussianNoise needs a float32 image in [0, 1], not {img.dtype}")
        noise: NDArray[np.float32] = self.random_generator.standard_normal(img.shape, dtype=np.float32)
        noise *= np.float32(sigma / 255)
        noise += img
        return noise
