"""Real images with defects, whose masks say where, among the training samples."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from albumentations import CropNonEmptyMaskIfExists, PadIfNeeded
from numpy.typing import NDArray

from img2img.data.cache import DecodedCache
from img2img.data.masks import MASKS, find_masks
from img2img.data.matching import listed
from img2img.data.pairs import Pair, Steps, TrainingPairs, Transform, apply_to_all, compose
from img2img.data.splits import Source
from img2img.data.stream import Draws, draws_of_sample, part_of_sample
from img2img.errors import UserError
from img2img.imaging.files import UnreadableImage, find_images, to_float

_TURNS = 1000  # samples in a round, in which real defects get their share


@dataclass(frozen=True)
class Defects:
    """Images with real defects.

    Attributes:
        source: The folder, and the images in it that have a mask.
        masks: The mask of each image, white where it is abnormal.
        cache: Opens the images.
        mask_cache: Opens the masks.
    """

    source: Source
    masks: Mapping[Path, Path]
    cache: DecodedCache
    mask_cache: DecodedCache

    @classmethod
    def find(cls, folder: Path, cache: DecodedCache, mask_cache: DecodedCache) -> Defects:
        """Returns the images of a folder that have a mask, found as `find_masks` does; warns of those without one.

        Raises:
            FileNotFoundError: If the folder does not exist.
            UserError: If no image has a mask, or an image has several.
        """
        if not folder.is_dir():
            raise FileNotFoundError(f"--data.defects {folder} is no folder; give one with KIND/ and KIND{MASKS}/ in it")
        images, found = find_masks(folder, find_images(folder), None)
        masks = {path: found[str(path)] for path in images if str(path) in found}
        if not masks:
            raise UserError(
                f"--data.defects {folder}: no image has a mask; give a folder with KIND/ and, beside it, KIND{MASKS}/ "
                "with masks of the same names, white where the image is abnormal"
            )
        if without := [str(path) for path in images if path not in masks]:
            warnings.warn(
                f"left out {len(without)} image(s) of {folder} without a mask: {listed(without)}", stacklevel=2
            )
        return cls(Source(folder, tuple(masks)), masks, cache, mask_cache)

    def files(self) -> list[tuple[DecodedCache, Sequence[Path]]]:
        """Returns both caches and the files that each opens."""
        return [(self.cache, self.source.paths), (self.mask_cache, [self.masks[path] for path in self.source.paths])]

    def usable(self) -> Defects:
        """Returns the defects without the images that nothing can be learned from, of which it warns.

        Raises:
            UserError: If none is left.
        """
        problems = {path: reason for path in self.source.paths if (reason := self._problem(path))}
        if not problems:
            return self
        warnings.warn(f"left out {len(problems)} defect(s): {listed(list(problems.values()), '; ')}", stacklevel=2)
        if len(problems) == len(self.source.paths):
            raise UserError(f"--data.defects {self.source.root}: none of {len(problems)} image(s) can be used")
        return replace(self, source=self.source.restricted(self.masks.keys() - problems.keys()))

    def _problem(self, path: Path) -> str:
        """Returns why an image cannot be used; empty if it can."""
        try:
            image, mask = self.open(path)
        except UnreadableImage as error:
            return str(error)
        if image.shape[:2] != mask.shape:
            sizes = " instead of ".join(f"{shape[1]}×{shape[0]}" for shape in (mask.shape, image.shape))
            return f"the mask {self.masks[path]} has another size than its image: {sizes}"
        return "" if mask.any() else f"the mask {self.masks[path]} marks nothing"

    def open(self, path: Path) -> tuple[NDArray[Any], NDArray[np.uint8]]:
        """Returns an image, H×W×C as `DecodedCache.open` does, and its mask, H×W: 1 where it is abnormal, else 0.

        Raises:
            UnreadableImage: If either cannot be decoded.
        """
        mask = self.mask_cache.open(self.masks[path])[..., 0]
        return self.cache.open(path), np.asarray(to_float(np.array(mask)) > 0.5, np.uint8)


def crop_about_defect(side: int) -> list[Transform]:
    """Returns transforms that cut a square about a random masked pixel; smaller images are padded by reflection."""
    padding = PadIfNeeded(side, side, border_mode=cv2.BORDER_REFLECT_101, p=1.0)
    return [padding, CropNonEmptyMaskIfExists(side, side, p=1.0)]


class DefectPairs(TrainingPairs):
    """Training stream of clean crops with their corrupted copies, and of crops with real defects.

    What a real defect hides is not known, so that its target is the image itself, and `real` is set.

    Args:
        source: The clean images.
        cache: Opens them.
        geometry: Transforms that input and target share.
        corruption: Transforms that make the input from a copy of the target.
        seed: Seed of the stream.
        defects: The images with defects.
        about: The `geometry` of these: image and mask share it.
        share: Fraction of the samples that show one of them, between 0 and 1.
    """

    def __init__(
        self,
        source: Source,
        cache: DecodedCache,
        geometry: Steps,
        corruption: Steps,
        seed: int,
        defects: Defects,
        about: Steps,
        share: float,
    ) -> None:
        super().__init__(source, cache, geometry, corruption, seed)
        self.defects, self.about = defects, compose(about)
        real = min(max(1, round(share * _TURNS)), _TURNS - 1)
        self._shares = (_TURNS - real, real)

    def _pair_of(self, image: int, n: int) -> tuple[Path, Pair]:
        part, number = part_of_sample(self.seed, self._shares, image)
        if part == 0:
            path, pair = super()._pair_of(number, n)
            return path, pair._replace(real=False)
        path = self.defects.source.of_sample(self.seed, number)
        return path, self._real(path, draws_of_sample(self.seed, n))

    def _real(self, path: Path, draws: Draws) -> Pair:
        image, mask = self.defects.open(path)
        cut = apply_to_all(self.about, {"image": np.array(image), "mask": mask}, draws)
        seen = np.ascontiguousarray(to_float(np.array(cut["image"])))
        return Pair(seen, seen.copy(), np.ascontiguousarray(cut["mask"], np.float32), real=True)
