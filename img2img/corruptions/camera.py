"""What a camera does to a photograph: noise of the sensor, developed with the image; and JPEG."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np

from img2img.corruptions.base import LUMA, Float, FloatTransform, Range, bounds
from img2img.errors import UserError

# Bilinear demosaicing as convolutions of a plane that holds zeros where the sensor has another colour.
_CROSS = np.array([[0, 1, 0], [1, 4, 1], [0, 1, 0]], np.float32) / 4
_SQUARE = np.array([[1, 2, 1], [2, 4, 2], [1, 2, 1]], np.float32) / 4


class CameraNoise(FloatTransform):
    """Adds shot and read noise in the sensor's linear colours and develops it with the image.

    White balance, demosaicing and the tone curve make the noise stronger in red and blue than in green, correlated
    between neighbouring pixels, and strongest in the shadows. The image itself is not demosaicked, so the target stays
    what a long exposure would show. After Brooks et al., "Unprocessing images for learned raw denoising", CVPR 2019,
    with their levels of noise and white balance. The camera's own noise reduction follows. In the luma, a guided filter
    (He et al., "Guided image filtering", PAMI 2013) and a weak blur: grain stays where the image has edges, and flat
    areas are smooth. In the chroma, a far blur, which leaves faint blotches. A network that knows only coloured grain
    takes gray grain for texture; one that knows only even grain judges by the flat areas and keeps it at the edges. RGB
    images only.

    Args:
        shot: Variance per unit of light, in units of the linear range; drawn log-uniformly. Read noise depends on it as
            in phones of the Darmstadt Noise Dataset (their equation 4).
        reduction: Strength of the guided filter: its epsilon is the square of this many standard deviations of the
            luma's noise. 0 leaves the noise even.
        luma_radius: Standard deviation of the Gaussian that blurs the luma (Rec. 601) of the noise, in pixels.
        chroma_radius: The same for the rest of the noise.
        p: Probability of applying it.

    Raises:
        ValueError: If a number is negative or the range is reversed.
    """

    def __init__(
        self,
        shot: Range = (1e-4, 1.2e-2),
        reduction: Range = (0.0, 2.5),
        luma_radius: Range = (0.0, 1.0),
        chroma_radius: Range = (1.0, 8.0),
        p: float = 1.0,
    ) -> None:
        super().__init__(p, shot=shot, reduction=reduction, luma_radius=luma_radius, chroma_radius=chroma_radius)

    def get_params(self) -> dict[str, Any]:
        """Draws the levels of noise, the gains of the white balance and the radii."""
        drawn = super().get_params()
        low, high = np.log(np.maximum(self.shot, 1e-12))
        log_shot = self.random_generator.uniform(low, high)
        log_read = 2.18 * log_shot + 1.20 + self.random_generator.normal(0, 0.26)
        red, blue = self.random_generator.uniform(1.9, 2.4), self.random_generator.uniform(1.5, 1.9)
        corner = tuple(self.random_generator.integers(0, 2, 2).tolist())
        gains = np.array([red, 1.0, blue], np.float32)
        levels = {"shot": float(np.exp(log_shot)), "read": float(np.exp(log_read))}
        return {**drawn, **levels, "gains": gains, "corner": corner}

    def corrupt(self, img: Float, shot: float = 0.0, read: float = 0.0, **params: Any) -> Float:
        """Returns the photograph with its noise, unclipped.

        Raises:
            UserError: If the image does not have three channels.
        """
        if img.shape[2] != 3:
            raise UserError(f"CameraNoise needs RGB images (data.channels: 3), not {img.shape[2]} channel(s)")
        balance: Float = params["gains"]
        light = _linear(np.maximum(img, 0)) / balance
        noise = self._normal(img.shape) * np.sqrt(shot * light + read)
        developed = _tone((light + _demosaicked(noise, params["corner"])) * balance)
        # A difference, so that the tone curve's rounding errors cancel: without noise the image is bit-identical.
        noise = developed - _tone(light * balance)
        luma = _luma(noise)
        chroma = noise - luma[..., None]
        left = _blurred(_reduced(luma, _luma(img), params["reduction"]), params["luma_radius"])
        return img + left[..., None] + _blurred(chroma, params["chroma_radius"])


def _luma(image: Float) -> Float:
    """Returns the H×W luma of H×W×3."""
    return np.asarray(image @ LUMA, np.float32)


def _reduced(noise: Float, image: Float, strength: float) -> Float:
    """Returns what a guided filter leaves of an H×W noise in an H×W image."""
    epsilon = (strength * float(noise.std())) ** 2
    if epsilon == 0:
        return noise
    return _guided(image + noise, epsilon) - _guided(image, epsilon)


def _guided(image: Float, epsilon: float, radius: int = 4) -> Float:
    """Returns an H×W image filtered with itself as the guide (He et al. 2013, equations 5 to 8)."""
    mean = _box(image, radius)
    variance = np.maximum(_box(image * image, radius) - mean * mean, 0)
    kept = np.divide(variance, variance + np.float32(epsilon), dtype=np.float32)
    return _box(kept, radius) * image + _box((1 - kept) * mean, radius)


def _box(image: Float, radius: int) -> Float:
    size = 2 * radius + 1
    return np.asarray(cv2.blur(image, (size, size), borderType=cv2.BORDER_REFLECT_101), np.float32)


def _blurred(image: Float, radius: float) -> Float:
    if radius < 0.2:  # at 0.2 the neighbours' weight is below 1e-5
        return image
    return np.asarray(cv2.GaussianBlur(image, (0, 0), radius, borderType=cv2.BORDER_REFLECT_101), np.float32)


class JPEG(FloatTransform):
    """Compresses an image as JPEG, as cameras save it: 8 bits, chroma at half the resolution; H×W×3 or H×W×1.

    `albumentations.ImageCompression` hands RGB to an encoder that takes BGR: red and blue exchange their weights in the
    luma.

    Args:
        quality: From 1 to 100, or a range: libjpeg's scale.
        p: Probability of applying it.

    Raises:
        ValueError: If quality is outside [1, 100] or its range is reversed.
    """

    unclipped = False

    def __init__(self, quality: Range = (60, 98), p: float = 1.0) -> None:
        super().__init__(p, quality=bounds("quality", quality, least=1, most=100))

    def corrupt(self, img: Float, quality: float = 100.0, **params: Any) -> Float:
        """Returns the image as a reader of the file sees it, in [0, 1]."""
        levels = np.rint(np.clip(img, 0, 1) * 255).astype(np.uint8)
        colour = img.shape[2] == 3
        bgr = cv2.cvtColor(levels, cv2.COLOR_RGB2BGR) if colour else levels
        _, encoded = cv2.imencode(".jpg", bgr, (cv2.IMWRITE_JPEG_QUALITY, round(quality)))
        decoded = cv2.imdecode(encoded, cv2.IMREAD_COLOR if colour else cv2.IMREAD_GRAYSCALE)
        assert decoded is not None  # it was encoded one line above
        seen = cv2.cvtColor(decoded, cv2.COLOR_BGR2RGB) if colour else decoded[..., None]
        return np.divide(seen, np.float32(255), dtype=np.float32)


def _demosaicked(noise: Float, corner: tuple[int, int]) -> Float:
    """Returns H×W×3 noise as a Bayer sensor sees it, interpolated bilinearly; `corner` is a red pixel's position."""
    height, width = noise.shape[:2]
    rows, columns = np.arange(height)[:, None] % 2, np.arange(width)[None, :] % 2
    red = (rows == corner[0]) & (columns == corner[1])
    blue = (rows != corner[0]) & (columns != corner[1])
    seen = ((red, _SQUARE), (~(red | blue), _CROSS), (blue, _SQUARE))
    planes = [
        cv2.filter2D(noise[..., channel] * mask, -1, kernel, borderType=cv2.BORDER_REFLECT_101)
        for channel, (mask, kernel) in enumerate(seen)
    ]
    return np.stack(planes, axis=-1)


def _linear(value: Float) -> Float:
    """Undoes sRGB's tone curve (IEC 61966-2-1)."""
    return np.where(value <= 0.04045, value / 12.92, ((value + 0.055) / 1.055) ** 2.4).astype(np.float32)


def _tone(linear: Float) -> Float:
    """Applies sRGB's tone curve; below black it continues as a straight line."""
    bent = 1.055 * np.maximum(linear, 0.0031308) ** (1 / 2.4) - 0.055
    return np.where(linear <= 0.0031308, 12.92 * linear, bent).astype(np.float32)
