"""Data module of existing pairs: two folders of images, matched by relative path."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from img2img.corruptions.base import Float
from img2img.data.cache import DecodedCache
from img2img.data.matching import listed, match_names
from img2img.data.paired_data import PairedData
from img2img.data.pairs import Pair, Steps, StreamPairs, WholePairs, apply_to_all, compose
from img2img.data.shards import is_shards
from img2img.data.splits import Source, Split, resolve_root, whole_folder
from img2img.data.stream import Draws
from img2img.errors import UserError
from img2img.imaging.files import to_float


class FolderPairs(PairedData):
    """Data module of (input, target) pairs from two folders of images; it adds no corruption.

    The two files of a pair have the same path in both folders; their extensions may differ. If the target root holds
    train/, val/ and test/, the input root must too. Validation and test call the corruption `pairs`.

    Args:
        input_root: Folder of the inputs, or `starter_jpeg`, the starter set as low-quality JPEG.
        target_root: Folder of the targets, or `starter`; it holds train/, val/ and test/, or is split. Searched
            recursively.
        input_channels: Channels of the inputs, 3 for RGB or 1 for gray; None for `channels`, like the targets.
        kwargs: Arguments of `PairedData`: crop_size, batch_size, geometry, channels, share, val_crop_size, val_images,
            num_workers, cache_gb, samples_per_epoch, seed.

    Raises:
        UserError: If an argument is out of range.
    """

    def __init__(
        self,
        input_root: str = "starter_jpeg",
        target_root: str = "starter",
        input_channels: Literal[1, 3] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.input_root, self.target_root = input_root, target_root
        self.partners = Partners(DecodedCache(input_channels or self.channels, self.cache_gb), self.cache)

    def setup(self, stage: str) -> None:
        """Finds the readable pairs of the splits that the stage needs.

        Raises:
            FileNotFoundError: If a folder is missing or holds no readable image.
            UserError: If a file has no partner or several partners, or partners differ in size.
        """
        super().setup(stage)
        for source in self._sources.values():
            self._check_sizes(source)

    def training_pairs(self) -> StreamPairs:
        """Returns the stream, whose item n is sample n; call `setup("fit")` first."""
        return FolderTrainingPairs(self._sources["train"], self.partners, self.geometry, self._seed)

    def _evaluation_pairs(self, source: Source, crop_size: int | None) -> WholePairs:
        return FolderEvaluationPairs(source, self.partners, crop_size)

    def _roots(self) -> list[Path]:
        root = resolve_root(self.target_root, "--data.target_root")
        if is_shards(root):
            raise UserError(f"{root} holds shards; pairs are read from two folders of images")
        return [root]

    def _find(self, split: Split, every: bool = False) -> Source:
        targets, (root,) = super()._find(split, every), self._roots()
        input_root = resolve_root(self.input_root, "--data.input_root")
        folder = input_root / targets.root.relative_to(root)  # its train/, or itself
        if not folder.is_dir():
            raise UserError(f"{root} has a folder {folder.name}/ but {input_root} has none; split both alike")
        self.partners.inputs |= _match(whole_folder(folder), whole_folder(targets.root))
        return replace(targets, paths=tuple(targets.paths))

    def _files(self, split: Split, source: Source) -> list[tuple[DecodedCache, Sequence[Path]]]:
        inputs = [self.partners.inputs[path] for path in source.paths]
        return [(self.cache, source.paths), (self.partners.input_cache, inputs)]

    def _check_sizes(self, source: Source) -> None:
        different = []
        for path in source.paths:
            sizes = [f"{image.shape[1]}×{image.shape[0]}" for image in self.partners.open(path)]
            if sizes[0] != sizes[1]:
                different.append(f"{self.partners.inputs[path]} is {sizes[0]}, {path} is {sizes[1]}")
        if different:
            raise UserError(
                f"{len(different)} pair(s) of different size: {listed(different, '; ')}; "
                "input and target must match pixel by pixel"
            )


class Partners:
    """Opens inputs and targets; `inputs` holds the input of each target."""

    def __init__(self, input_cache: DecodedCache, cache: DecodedCache) -> None:
        self.input_cache, self.cache = input_cache, cache
        self.inputs: dict[Path, Path] = {}

    def open(self, path: Path) -> tuple[NDArray[Any], NDArray[Any]]:
        """Returns the input of a target, and the target, H×W×C as in `DecodedCache.open`."""
        return self.input_cache.open(self.inputs[path]), self.cache.open(path)


class FolderTrainingPairs(StreamPairs):
    """Training stream of crops, cut from input and target at the same place by `geometry`: crop, flips, rotations."""

    def __init__(self, source: Source, partners: Partners, geometry: Steps, seed: int) -> None:
        super().__init__(source, seed)
        self.partners = partners
        self.geometry = compose(geometry, additional_targets={"input": "image"})

    def pair(self, path: Path, draws: Draws) -> Pair:
        """Returns the same crop of an input and its target."""
        seen, target = self.partners.open(path)
        cut = apply_to_all(self.geometry, {"image": target, "input": seen}, draws)
        return _without_holes(*(to_float(np.array(cut[name])) for name in ("input", "image")))


class FolderEvaluationPairs(WholePairs):
    """Evaluation dataset of whole inputs and targets, or of their centre crops."""

    def __init__(self, source: Source, partners: Partners, crop_size: int | None = None) -> None:
        super().__init__(source, ["pairs"], crop_size)
        self.partners = partners

    def pair(self, path: Path, name: str) -> Pair:
        """Returns an input and its target."""
        return _without_holes(*map(self.centre, self.partners.open(path)))


def _without_holes(seen: Float, target: Float) -> Pair:
    return Pair(seen, target, np.zeros((*target.shape[:2], 1), np.float32))


def _match(inputs: Source, targets: Source) -> dict[Path, Path]:
    """Returns the input of each target.

    Raises:
        UserError: If a file has no partner or several partners.
    """
    matches = match_names(map(inputs.name, inputs.paths), map(targets.name, targets.paths))
    said = "{} could be the target of {}"
    groups = [said.format(" or ".join(theirs), " or ".join(ours)) for ours, theirs in matches.ambiguous]
    wrong = [f"{len(groups)} name(s) with several files: {listed(groups, '; ')}"] if groups else []
    for lonely, here, there in ((matches.left, inputs, targets), (matches.right, targets, inputs)):
        if lonely:
            wrong.append(f"{there.root} lacks the partners of {len(lonely)} file(s) of {here.root}: {listed(lonely)}")
    if wrong:
        raise UserError(f"{'; '.join(wrong)}; a pair has the same path in both folders, with any extension")
    return {targets.root / target: inputs.root / name for name, target in matches.pairs.items()}
