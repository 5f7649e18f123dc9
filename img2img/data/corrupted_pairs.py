"""Data module that makes pairs from clean images: geometry for both, corruption for the input."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Iterator, Sequence
from functools import cached_property
from itertools import permutations
from pathlib import Path
from typing import Any

import albumentations
from numpy.typing import NDArray

from img2img.corruptions import Clip, GaussianNoise
from img2img.corruptions.base import MaskTransform
from img2img.data.cache import DecodedCache
from img2img.data.clean_images import CleanImages
from img2img.data.defects import DefectPairs, Defects, crop_about_defect
from img2img.data.fixed_corruption import FixedCorruption
from img2img.data.paired_data import PairedData
from img2img.data.pairs import EvaluationPairs, TrainingPairs, Transform, needs_other, parts_of
from img2img.data.splits import MixedSource, Source, Split, resolve_root, spread, whole_folder
from img2img.errors import UserError


class CorruptedPairs(PairedData):
    """Data module of (corrupted, clean) pairs, made from clean images.

    Args:
        root: Folder with train/, val/ and test/, or one folder of images to split, or `starter`, the set that comes
            with the program. Searched recursively. With a list of folders, training alternates; see `weights`.
        corruption: Albumentations transforms that make the input from a copy of the target; None for blind Gaussian
            noise with sigma in [0, 55]. Pixels that they mark in the `mask` target are holes. A transform whose class
            has `needs_other = True` finds a crop of another image of the split, as large as its own, in
            `data["other"]`.
        evaluation: Corruptions for validation and test, by name. None for the `corruption` itself, or for sigma15,
            sigma25 and sigma50 if that is only Gaussian noise.
        fixed_corruption: Transforms that damage each training image once, depending only on (seed, image), before
            anything else. Input and target are both cut from the damaged image, so training never sees a clean
            pixel. Their holes are not marked. Validation and test images stay clean.
        val_dir: Folder of validation images, instead of the root's.
        test_dir: Folder of test images, instead of the root's.
        weights: How often each of several roots is drawn from, in any unit; None to draw in proportion to their pixels.
        defects: Folder of images with real defects, for a task that learns masks: `KIND/` and, beside it,
            `KIND_masks/` with masks of the same names, white where an image is abnormal. Training takes crops about
            them, whose mask it learns; what they hide is not known. None for synthetic anomalies only.
        defect_share: Fraction of the samples that show one of these.
        kwargs: Arguments of `PairedData`: crop_size, batch_size, geometry, channels, share, val_crop_size, val_images,
            num_workers, cache_gb, samples_per_epoch, seed.

    Raises:
        UserError: If an argument is out of range, or the list of roots is empty.
    """

    _advice = ", or set --data.val_dir and --data.test_dir"

    def __init__(
        self,
        root: str | list[str] = "starter",
        corruption: list[Transform] | None = None,
        evaluation: dict[str, list[Transform]] | None = None,
        fixed_corruption: list[Transform] | None = None,
        val_dir: str | None = None,
        test_dir: str | None = None,
        weights: list[float] | None = None,
        defects: str | None = None,
        defect_share: float = 0.2,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        if not 0 < defect_share < 1:
            raise UserError(f"defect_share must be between 0 and 1, such as 0.2, not {defect_share}")
        if defects is not None and fixed_corruption:
            raise UserError("defects and fixed_corruption do not go together: the images with defects stay as they are")
        self.defects, self.defect_share = defects, defect_share
        self.root, self.val_dir, self.test_dir, self.weights = root, val_dir, test_dir, weights
        roots = 1 if isinstance(root, str) else len(root)
        if roots == 0:
            raise UserError("root is an empty list; give a folder of photographs, or several")
        if weights is not None and (len(weights) != roots or min(weights) <= 0):
            raise UserError(f"weights must be {roots} number(s) above 0, one for each root, not {weights}")
        self.cache.remote_limit //= roots + (val_dir is not None) + (test_dir is not None)
        self.corruption = [GaussianNoise()] if corruption is None else corruption
        self.evaluation = _default_evaluation(self.corruption) if evaluation is None else evaluation
        self.fixed_corruption = fixed_corruption or []
        if needs_other(self.fixed_corruption):
            raise UserError("fixed_corruption damages each image by itself: put what takes from another in corruption")
        for transforms in (self.fixed_corruption + self.corruption, *self.evaluation.values()):
            _warn_of_clipping(transforms)

    def training_pairs(self) -> TrainingPairs:
        """Returns the stream, whose item n is sample n; call `setup("fit")` first."""
        source = self._sources["train"]
        cache, _ = self._files("train", source)[0]
        if isinstance(source, MixedSource) and self.weights is None:
            source = source.weighted(cache.pixels)
        pairs = source, cache, self.geometry, self.corruption, self._seed
        defects = self._usable_defects
        if defects is None:
            return TrainingPairs(*pairs)
        about = [*crop_about_defect(self.crop_size), *copy.deepcopy(self.geometry[1:])]
        return DefectPairs(*pairs, defects, about, self.defect_share)

    @cached_property
    def _every_defect(self) -> Defects | None:
        if self.defects is None:
            return None
        return Defects.find(Path(self.defects), self.cache, DecodedCache(1, self.cache_gb))

    @cached_property
    def _usable_defects(self) -> Defects | None:
        return None if self._every_defect is None else self._every_defect.usable()

    def _files_beside(self) -> list[tuple[DecodedCache, Sequence[Path]]]:
        return [] if self._every_defect is None else self._every_defect.files()

    def setup(self, stage: str) -> None:
        """Finds the readable images of the splits that the stage needs, and for training those with real defects.

        Raises:
            FileNotFoundError: If a folder is missing or holds no readable image.
            UserError: If no image with defects can be used.
        """
        super().setup(stage)
        if stage == "fit":
            _ = self._usable_defects  # says now what is wrong with them

    def _evaluation_pairs(self, source: Source, crop_size: int | None) -> EvaluationPairs:
        return EvaluationPairs(source, self.cache, self.evaluation, self._seed, crop_size)

    def _roots(self) -> list[Path]:
        roots = [resolve_root(root) for root in ([self.root] if isinstance(self.root, str) else self.root)]
        for root, other in permutations(roots, 2):
            if other.resolve().is_relative_to(root.resolve()):
                raise UserError(f"--data.root names {root} and, inside it, {other}: each image may have only one root")
        return roots

    def clean_images(self, split: Split, most: int) -> CleanImages:
        """Returns at most `most` whole images of a split for prediction, evenly spread, neither cropped nor corrupted.

        Calls `setup` if needed. `val_images` does not limit them: thresholds need more images than a validation.

        Raises:
            FileNotFoundError: If a folder is missing or holds no readable image.
        """
        if split not in self._sources:
            self.setup("fit")
        source = self._sources[split]
        if split == "val" and self.val_images is not None:
            source = self._find(split, every=True)
        paths = [source.paths[i] for i in spread(len(source.paths), most)]
        if source is not self._sources[split]:
            self.cache.prepare(paths)
            paths = [path for path in paths if self.cache.problem(path) is None]
        cache, _ = self._files(split, source)[0]
        return CleanImages(cache, paths, min(32, self.evaluation_batch_size))

    def trained_images(self, most: int) -> CleanImages:
        """Returns at most `most` of all images that training sees, as `clean_images` does; those with defects first."""
        defects = self._usable_defects
        abnormal = [] if defects is None else [defects.source.paths[i] for i in spread(len(defects.source.paths), most)]
        normal = self.clean_images("train", most - len(abnormal))
        return CleanImages(normal.cache, [*abnormal, *normal.paths], normal.batch_size)

    def open_images(self, split: Split, most: int) -> Iterator[tuple[Path, NDArray[Any]]]:
        """Yields images as `PairedData` does; of training also those with real defects."""
        yield from super().open_images(split, most)
        defects = self._usable_defects if split == "train" else None
        if defects is not None:
            yield from ((path, defects.cache.open(path)) for path in defects.source.paths)

    def _find(self, split: Split, every: bool = False) -> Source:
        own = self._own_folder(split)
        return super()._find(split, every) if own is None else whole_folder(resolve_root(own))

    def _files(self, split: Split, source: Source) -> list[tuple[DecodedCache, Sequence[Path]]]:
        if split != "train" or not self.fixed_corruption:
            return super()._files(split, source)
        return [(self.cache.finished_by(FixedCorruption(self.fixed_corruption, self._seed, source)), source.paths)]

    def _divided_by_seed(self, split: Split) -> bool:
        return self._own_folder(split) is None and super()._divided_by_seed(split)

    def _own_folder(self, split: Split) -> str | None:
        return {"val": self.val_dir, "test": self.test_dir}.get(split)


def _default_evaluation(corruption: list[Transform]) -> dict[str, list[Transform]]:
    """Returns the papers' noise levels if the corruption is only Gaussian noise, otherwise the corruption itself."""
    if all(isinstance(transform, GaussianNoise) for transform in corruption):
        return {f"sigma{sigma}": [GaussianNoise(sigma)] for sigma in (15, 25, 50)}
    return {"corrupted": corruption}


def _warn_of_clipping(transforms: Sequence[Transform]) -> None:
    """Warns if a transform would clip noise that should stay unclipped."""
    noise: Transform | None = None
    for transform in _in_sequence(transforms):
        parts = parts_of(transform)
        clipping = next((part for part in parts if _clips(part)), None)
        if noise is not None and clipping is not None:
            said = (
                f"{type(noise).__name__} adds unclipped noise, but {type(clipping).__name__} after it clips to [0, 1]"
            )
            warnings.warn(f"{said}; put noise last, or Clip after it", stacklevel=3)
        if clipping is not None or isinstance(transform, Clip):
            noise = None
        noise = next((part for part in parts if getattr(part, "unclipped", False)), noise)


def _in_sequence(transforms: Sequence[Transform]) -> Iterator[Transform]:
    """Yields transforms in order, and the members of a Sequential one by one."""
    for transform in transforms:
        if isinstance(transform, albumentations.Sequential):
            yield from _in_sequence(transform.transforms)
        else:
            yield transform


def _clips(transform: Transform) -> bool:
    """Returns whether a transform clips unintentionally: all of albumentations that we know do, except dropout."""
    ours = isinstance(transform, MaskTransform | albumentations.CoarseDropout | Clip)
    return not ours and not getattr(transform, "unclipped", False)
