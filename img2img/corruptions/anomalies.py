"""Synthetic anomalies: defects that a network learns to undo and to point at."""

from __future__ import annotations

import math
from abc import abstractmethod
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from img2img.corruptions import regions
from img2img.corruptions.base import Bool, Float, MaskTransform, Range, bounds

VISIBLE = 2 / 255
"""Smaller changes than this are not made, so that the mask marks what can be seen."""
_NEAR = np.ones((3, 3), np.uint8)


class Anomaly(MaskTransform):
    """Base class of synthetic anomalies: what they change visibly, by more than `VISIBLE`, is marked in the mask.

    Gaps of a pixel or two between marked pixels are marked too, where the change happens to be small; all other pixels
    stay as they are. Images are gray or RGB, uint8 or float32.

    Attributes:
        needs_other: Whether the transform takes a part of another image, H×W×C, from `data["other"]`. Without one, it
            takes the image itself.
    """

    needs_other = False

    def get_params_dependent_on_data(self, params: dict[str, Any], data: dict[str, Any]) -> dict[str, Any]:
        """Draws the defect once, for both image and mask."""
        image = _float(data["image"])
        other = data.get("other") if self.needs_other else None
        changed = self.damage(image, image if other is None else _float(other))
        changed = np.clip(changed, min(0.0, float(image.min())), max(1.0, float(image.max())))
        difference = np.abs(changed - image).max(2)
        hole = cv2.morphologyEx((difference > VISIBLE).astype(np.uint8), cv2.MORPH_CLOSE, _NEAR).view(np.bool_)
        return {"hole": hole, "values": changed[hole]}

    def draw_hole(self, img: Float) -> tuple[Bool, Float]:
        """Returns a defect drawn without another image, see `MaskTransform`."""
        drawn = self.get_params_dependent_on_data({}, {"image": img})
        return drawn["hole"], drawn["values"]

    @abstractmethod
    def damage(self, img: Float, other: Float) -> Float:
        """Returns the image with a defect, H×W×C float32; `other` is another image or the same one."""

    def _log_uniform(self, ends: tuple[float, float]) -> float:
        return regions.log_uniform(self.random_generator, ends)

    def _sign(self) -> float:
        return 1.0 if self.random_generator.random() < 0.5 else -1.0

    def _tint(self, channels: int, most: float = 0.3) -> Float:
        """Returns how strongly each channel changes, about 1."""
        if channels == 1:
            return np.ones(1, np.float32)
        return np.asarray(1 + self.random_generator.uniform(-most, most, channels), np.float32)


def _float(image: NDArray[Any]) -> Float:
    """Returns an image as H×W×C float32 in [0, 1]."""
    values = image if image.dtype != np.uint8 else np.divide(image, np.float32(255), dtype=np.float32)
    return np.atleast_3d(values)


class PastedPatch(Anomaly):
    """A box of another image, resized, blended in without a visible seam: what does not belong here.

    After Schlüter et al., "Natural Synthetic Anomalies for Self-Supervised Anomaly Detection and Localization" (NSA),
    ECCV 2022, with Poisson image editing; without blending it is CutPaste (Li et al., CVPR 2021).

    Args:
        size: Side of the box in pixels, or a range; drawn log-uniformly for height and width.
        scale: How much the patch is enlarged, or a range.
        seamless: Probability of blending; otherwise the patch is pasted as it is.
        p: Probability of applying it.

    Raises:
        ValueError: If an argument is out of range (size >= 3, scale in [0.1, 10], seamless in [0, 1]).
    """

    needs_other = True

    def __init__(
        self, size: Range = (8.0, 128.0), scale: Range = (0.6, 1.6), seamless: float = 0.6, p: float = 1.0
    ) -> None:
        super().__init__(p)
        self.size, self.scale = bounds("size", size, least=3), bounds("scale", scale, least=0.1, most=10)
        bounds("seamless", seamless, most=1)
        self.seamless = seamless

    def damage(self, img: Float, other: Float) -> Float:
        """Returns the image with the patch."""
        rng, (height, width) = self.random_generator, img.shape[:2]
        rows, columns = (max(3, round(min(self._log_uniform(self.size), 0.9 * side))) for side in (height, width))
        if min(height - rows, width - columns) < 0:
            return img
        top, left = int(rng.integers(height - rows, endpoint=True)), int(rng.integers(width - columns, endpoint=True))
        patch = self._patch(other, rows, columns)
        changed = img.copy()
        place = changed[top : top + rows, left : left + columns]
        if rng.random() < self.seamless:
            patch = patch + regions.membrane(place - patch)
        place[:] = patch
        return changed

    def _patch(self, other: Float, rows: int, columns: int) -> Float:
        """Returns a part of the other image, turned over at random, at the wanted size."""
        rng, scale = self.random_generator, self._log_uniform(self.scale)
        height, width = other.shape[:2]
        wanted = min(height, max(1, round(rows / scale))), min(width, max(1, round(columns / scale)))
        top, left = (
            int(rng.integers(side - want, endpoint=True)) for side, want in zip((height, width), wanted, strict=True)
        )
        patch = other[top : top + wanted[0], left : left + wanted[1]]
        patch = patch[:: int(self._sign()), :: int(self._sign())]
        return np.atleast_3d(cv2.resize(np.ascontiguousarray(patch), (columns, rows), interpolation=cv2.INTER_LINEAR))


class ForeignTexture(Anomaly):
    """A region filled with texture from another image, turned, resized and changed in brightness and contrast.

    After Zavrtanik et al., "DRÆM - A discriminatively trained reconstruction embedding for surface anomaly detection",
    ICCV 2021, whose textures come from a set of their own; here from the images of training.

    Args:
        size: Size of the region in pixels, or a range; drawn log-uniformly.
        opacity: How much of the texture is seen, in [0, 1], or a range.
        p: Probability of applying it.
    """

    needs_other = True

    def __init__(self, size: Range = (6.0, 128.0), opacity: Range = (0.3, 1.0), p: float = 1.0) -> None:
        super().__init__(p)
        self.size, self.opacity = bounds("size", size, least=1), bounds("opacity", opacity, most=1)

    def damage(self, img: Float, other: Float) -> Float:
        """Returns the image with the region."""
        rng, size = self.random_generator, self._log_uniform(self.size)
        region = regions.soften(regions.blob(rng, img.shape, size), self._log_uniform((0.5, max(1.0, size / 6))))
        height, width = img.shape[:2]
        zoom, angle = self._log_uniform((0.5, 2)), rng.uniform(0, 360)
        matrix = cv2.getRotationMatrix2D((width / 2, height / 2), angle, zoom)
        matrix[:, 2] += rng.uniform(-0.5, 0.5, 2) * (width, height)
        texture = np.atleast_3d(cv2.warpAffine(other, matrix, (width, height), borderMode=cv2.BORDER_REFLECT))
        mean = texture.mean((0, 1), dtype=np.float32)
        contrast = self._log_uniform((0.4, 2.5)) * self._sign()
        level = mean + self._sign() * self._log_uniform((0.02, 0.3)) * self._tint(img.shape[2])
        texture = (texture - mean) * np.float32(contrast) + level
        weight = region[..., None] * np.float32(self._uniform(self.opacity))
        return np.asarray(img + weight * (texture - img), np.float32)


class Smears(Anomaly):
    """A region that is blurred along a direction, or covered with grain: sharpness that changes from place to place.

    Args:
        size: Size of the region in pixels, or a range; drawn log-uniformly.
        length: Length of the blur in pixels, or a range.
        grain: Standard deviation of the grain, or a range.
        p: Probability of applying it.
    """

    def __init__(
        self, size: Range = (12.0, 150.0), length: Range = (4.0, 20.0), grain: Range = (0.03, 0.15), p: float = 1.0
    ) -> None:
        super().__init__(p)
        self.size, self.length = bounds("size", size, least=1), bounds("length", length, least=1)
        self.grain = bounds("grain", grain, most=1)

    def damage(self, img: Float, other: Float) -> Float:
        """Returns the image with the smear."""
        rng, size = self.random_generator, self._log_uniform(self.size)
        region = regions.soften(regions.blob(rng, img.shape, size), self._log_uniform((0.5, max(1.0, size / 6))))
        if rng.random() < 0.6:
            changed = self._blurred(img)
        else:
            noise = rng.standard_normal(img.shape, dtype=np.float32)
            noise = np.atleast_3d(cv2.GaussianBlur(noise, (0, 0), self._uniform((0.3, 2.0))))
            grain = self._uniform(self.grain) / max(float(noise.std()), 1e-6)
            changed = np.asarray(img + grain * noise, np.float32)
        return img + region[..., None] * (changed - img)

    def _blurred(self, img: Float) -> Float:
        side, angle = 2 * math.ceil(self._uniform(self.length) / 2) + 1, self.random_generator.uniform(0, math.pi)
        kernel = np.zeros((side, side), np.float32)
        end = np.array([math.cos(angle), math.sin(angle)]) * (side // 2)
        begin, stop = (np.rint(side // 2 + sign * end).astype(int).tolist() for sign in (-1, 1))
        cv2.line(kernel, begin, stop, 1.0, int(self.random_generator.integers(1, 4)))
        return np.atleast_3d(cv2.filter2D(img, -1, kernel / kernel.sum()))


class Warps(Anomaly):
    """A region whose content is shifted, swirled or bulged: what is there, is not where it belongs.

    Args:
        size: Size of the region in pixels, or a range; drawn log-uniformly.
        shift: Greatest displacement in pixels, or a range; drawn log-uniformly.
        p: Probability of applying it.
    """

    def __init__(self, size: Range = (16.0, 128.0), shift: Range = (3.0, 25.0), p: float = 1.0) -> None:
        super().__init__(p)
        self.size, self.shift = bounds("size", size, least=1), bounds("shift", shift, least=0.1)

    def damage(self, img: Float, other: Float) -> Float:
        """Returns the image with the warp."""
        rng, size = self.random_generator, self._log_uniform(self.size)
        region = regions.soften(regions.blob(rng, img.shape, size), size / 6)
        shift = min(self._log_uniform(self.shift), size / 2)
        y, x = np.mgrid[: img.shape[0], : img.shape[1]].astype(np.float32)
        if rng.random() < 0.5:
            along = rng.uniform(-1, 1, (2, 1, 1)).astype(np.float32)
        else:
            along = np.stack([regions.smooth_noise(rng, img.shape, max(size / 2, 4)) for _ in range(2)])
        dx, dy = region * np.float32(shift) * along
        return np.atleast_3d(cv2.remap(img, x + dx, y + dy, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT))
