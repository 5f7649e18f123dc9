"""Finds photographs that recur: copies, also re-encoded, resized, brightened or cropped, and the same part again.

Each image is kept as a small gray picture, its fingerprint. Two of them are compared in two steps: the lowest
frequencies choose few candidates, as perceptual hashes do; each candidate is then laid onto the image (Evangelidis &
Psarakis, "Parametric Image Alignment Using Enhanced Correlation Coefficient Maximization", PAMI 2008), and their fine
structure is compared, which photographs of different things of one kind do not share.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from torch import Tensor

Fingerprint = NDArray[np.uint8]
"""Gray values, `SIDE`×`SIDE`, the darkest 0 and the brightest 255."""
Picture = NDArray[np.float32]

SIDE = 40
"""Pixels of a fingerprint's sides: 1.6 kB for each image."""
MOST_KNOWN = 10_000
"""The most training images that are kept, evenly spread."""
MOST_COMPARED = 500
"""The most images of a split that are compared with them, evenly spread."""
NEAR = 0.9
"""Correlation of the aligned fine structure from which an image is a near-duplicate."""
COPY = 0.99
"""Correlation without alignment from which it is a copy: the same photograph, at most resized or encoded again."""
_FREQUENCIES = 8  # of each side
_CANDIDATES, _LEAST_ALIKE = 8, 0.6  # nearest by low frequencies, and the least correlation of these
_FARTHEST = 0.15  # how far alignment may move a corner, in sides
_ALIGNMENT = (cv2.TERM_CRITERIA_EPS | cv2.TERM_CRITERIA_COUNT, 10, 1e-3)


@dataclass(frozen=True)
class Match:
    """A known image of which another one is a near-duplicate.

    Attributes:
        number: Number of the known image.
        copy: Whether both are the same photograph, at most resized or encoded again.
    """

    number: int
    copy: bool


def fingerprint(pixels: NDArray[Any]) -> Fingerprint:
    """Returns the fingerprint of an image, H×W or H×W×C of any type, in any range and of any size."""
    small = cv2.resize(np.ascontiguousarray(pixels), (SIDE, SIDE), interpolation=cv2.INTER_AREA).astype(np.float32)
    gray = small if small.ndim == 2 else small.mean(2)
    low, high = float(gray.min()), float(gray.max())
    return np.asarray(np.rint((gray - low) * (255 / max(high - low, 1e-9))), np.uint8)


def fingerprints(images: Tensor) -> Fingerprint:
    """Returns the fingerprints of a batch N×C×H×W, N×`SIDE`×`SIDE`."""
    return np.stack([fingerprint(gray) for gray in images.float().mean(1).cpu().numpy()])


class KnownImages:
    """Fingerprints of images, to find near-duplicates of them.

    Args:
        fingerprints: N×`SIDE`×`SIDE`, of at least one image; None if nothing is known.
    """

    def __init__(self, fingerprints: Fingerprint | Tensor | None) -> None:
        self.fingerprints = None if fingerprints is None else np.asarray(fingerprints)
        if self.fingerprints is not None:
            self._coarse = np.stack([_low_frequencies(one.astype(np.float32)) for one in self.fingerprints])

    def match_all(self, images: Tensor) -> list[Match | None]:
        """Returns the match of each image of a batch, N×C×H×W."""
        if self.fingerprints is None:
            return [None] * len(images)
        return [self.match(one) for one in fingerprints(images)]

    def match(self, other: Fingerprint) -> Match | None:
        """Returns a known image of which this one is a near-duplicate, a copy if there is one; None without any."""
        if self.fingerprints is None:
            return None
        seen = other.astype(np.float32)
        alike = self._coarse @ _low_frequencies(seen)
        nearest = np.argsort(-alike, kind="stable")[:_CANDIDATES]
        candidates = [int(number) for number in nearest if alike[number] >= _LEAST_ALIKE]
        pictures = [self.fingerprints[number].astype(np.float32) for number in candidates]
        whole, fine = np.ones((SIDE, SIDE), bool), _fine_structure(seen)
        plain = [_correlation(_fine_structure(picture), fine, whole) for picture in pictures]
        if plain and max(plain) >= NEAR:
            best = int(np.argmax(plain))
            return Match(candidates[best], plain[best] >= COPY)
        for number, picture in zip(candidates, pictures, strict=True):
            if _aligned_correlation(picture, seen) >= NEAR:
                return Match(number, copy=False)
        return None


def _low_frequencies(picture: Picture) -> Picture:
    """Returns the lowest frequencies as a vector of length 1; of a flat picture zeros.

    The mean and the lowest one of each direction are 0: they change with the light.
    """
    square = cv2.dct(picture)[:_FREQUENCIES, :_FREQUENCIES]
    square[0, :2] = square[1, 0] = 0
    found = square.ravel()
    return np.asarray(found / max(float(np.linalg.norm(found)), 1e-6), np.float32)


def _fine_structure(picture: Picture) -> Picture:
    """Returns a band of middle frequencies, in units of its strength nearby: light and shade do not change it much."""
    unit = SIDE / 32
    fine, coarse = (_blurred(picture, sigma * unit) for sigma in (0.7, 2))
    band = fine - coarse
    return np.asarray(band / (np.sqrt(_blurred(band * band, 3 * unit)) + 1), np.float32)


def _blurred(picture: Picture, sigma: float) -> Picture:
    return np.asarray(cv2.GaussianBlur(picture, (0, 0), sigma, borderType=cv2.BORDER_REFLECT), np.float32)


def _aligned_correlation(known: Picture, seen: Picture) -> float:
    """Returns the correlation of the fine structures after a small affine motion; -1 where none is found."""
    try:
        first, second = (picture - _blurred(picture, SIDE / 5) for picture in (known, seen))  # without light and shade
        _, motion = cv2.findTransformECC(first, second, np.eye(2, 3, dtype=np.float32), cv2.MOTION_AFFINE, _ALIGNMENT)
    except cv2.error:  # it does not converge
        return -1
    corners = np.array([[0, 0, 1], [SIDE, 0, 1], [0, SIDE, 1], [SIDE, SIDE, 1]], np.float32)
    if np.abs(corners @ motion.T - corners[:, :2]).max() > _FARTHEST * SIDE:
        return -1
    how = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    moved = cv2.warpAffine(seen, motion, (SIDE, SIDE), flags=how, borderMode=cv2.BORDER_REFLECT)
    there = cv2.warpAffine(np.ones_like(seen), motion, (SIDE, SIDE), flags=how)
    inside = cv2.erode(there, np.ones((3, 3), np.uint8), borderType=cv2.BORDER_CONSTANT, borderValue=1) > 0.99
    return _correlation(_fine_structure(known), _fine_structure(np.asarray(moved, np.float32)), inside)


def _correlation(one: Picture, other: Picture, where: NDArray[np.bool_]) -> float:
    first, second = (values[where] - values[where].mean() for values in (one, other))
    return float(first @ second / max(float(np.linalg.norm(first) * np.linalg.norm(second)), 1e-6))
