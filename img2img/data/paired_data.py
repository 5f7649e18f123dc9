"""Base class of data modules that train on the sample stream: splits, cache, loaders, position in the stream."""

from __future__ import annotations

import math
import warnings
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Literal

import albumentations
import torch
from lightning.pytorch import LightningDataModule
from numpy.typing import NDArray
from torch.utils.data import DataLoader, Dataset, Sampler

from img2img.data.ahead import AheadLoader
from img2img.data.cache import DecodedCache, prepare_all
from img2img.data.matching import listed
from img2img.data.names import ManyPaths, total
from img2img.data.pairs import Sample, StreamPairs, Transform, WholePairs, collate, random_crop
from img2img.data.shards import make_room
from img2img.data.splits import Source, Split, find_split, has_part, mix, spread
from img2img.data.stream import EvaluationSampler, StreamSampler
from img2img.data.workers import begin
from img2img.errors import UserError
from img2img.imaging.files import UnreadableImage

_SPLITS: dict[str, tuple[Split, ...]] = {"fit": ("train", "val"), "validate": ("val",), "test": ("test",)}


class PairedData(LightningDataModule, ABC):
    """Data module of (input, target) pairs: training is an endless stream whose sample n depends only on (seed, n).

    See `img2img.data.stream`. Validation and test use whole images and depend only on (seed, image).

    Args:
        crop_size: Side of the square training crops, in pixels; smaller images are padded by reflection.
        batch_size: Crops in a batch, per process.
        geometry: Albumentations transforms that input and target share, after the crop; None for the eight
            symmetries of the square.
        channels: 3 for RGB, 1 for gray; images are converted.
        share: Fraction of the images for val, and the same for test, if one folder is split; 0 to train on all.
        group_by: Which images show the same part, and stay on one side when a folder is split: a regular expression on
            the path, whose groups name the part, or a number N, if files whose last numbers are closer than N do. None
            to split by image.
        val_crop_size: Side of the centre crop that validation uses, in pixels; None for whole images. Test always
            uses whole images.
        val_images: Maximum number of validation images from the root, evenly spread; None for all.
        num_workers: Processes that prepare samples; None for four per GPU, but none on CPUs, where the network needs
            the cores.
        cache_gb: Size limit of the decoded-image cache, in 10^9 bytes; 0 switches it off.
        samples_per_epoch: Crops in an epoch. None makes the whole run one epoch if `trainer.max_steps` is set;
            otherwise an epoch covers the training images once.
        seed: Seed of the stream; None to use `seed_everything`.

    Raises:
        UserError: If an argument is out of range.
    """

    weights: list[float] | None = None  # how often each of several roots is drawn from; None to weigh by pixels
    _advice = ""  # what else the user can do if a split has no images
    evaluation_batch_size = 1  # whole images differ in size

    def __init__(
        self,
        crop_size: int = 128,
        batch_size: int = 12,
        geometry: list[Transform] | None = None,
        channels: Literal[1, 3] = 3,
        share: float = 0.1,
        val_crop_size: int | None = 512,
        val_images: int | None = 16,
        num_workers: int | None = None,
        cache_gb: float = 16.0,
        samples_per_epoch: int | None = None,
        seed: int | None = None,
        group_by: int | str | None = None,
    ) -> None:
        super().__init__()
        for name, value in (("crop_size", crop_size), ("batch_size", batch_size), ("val_images", val_images)):
            if value is not None and value < 1:
                raise UserError(f"{name} must be at least 1, not {value}")
        if not 0 <= share < 0.5:
            raise UserError(f"share must be at least 0 and less than 0.5, not {share}")
        self.crop_size, self.batch_size, self.share = crop_size, batch_size, share
        self.group_by = group_by
        self.val_crop_size, self.val_images = val_crop_size, val_images
        self.num_workers, self.samples_per_epoch, self.seed = num_workers, samples_per_epoch, seed
        crop = random_crop(crop_size, crop_size)
        self.geometry: list[Transform] = [crop, *([albumentations.D4(p=1.0)] if geometry is None else geometry)]
        self.channels, self.cache_gb = channels, cache_gb
        self.cache = DecodedCache(channels, cache_gb)
        self._sources: dict[Split, Source] = {}
        self._base = {"next_sample": 0, "global_step": 0}

    # What subclasses define --------------------------------------------------------------------------------------

    @abstractmethod
    def training_pairs(self) -> StreamPairs:
        """Returns the stream, whose item n is sample n; call `setup("fit")` first."""

    @abstractmethod
    def _evaluation_pairs(self, source: Source, crop_size: int | None) -> WholePairs:
        """Returns the pairs of validation or test."""

    @abstractmethod
    def _roots(self) -> list[Path]:
        """Returns the folders that hold train, val and test, or are split into them."""

    def _find(self, split: Split, every: bool = False) -> Source:
        """Returns the images of a split, readable or not; for val at most `val_images`, unless `every` one is asked."""
        how = self._seed, self.share, self._advice, self.group_by
        parts = [find_split(root, split, *how) for root in self._roots()]
        source = parts[0] if len(parts) == 1 else mix(parts, self.weights or [1] * len(parts))
        count = len(source.paths)
        if split == "val" and not every and self.val_images is not None and count > self.val_images:
            source = source.restricted({source.paths[i] for i in spread(count, self.val_images)})
        return source

    def _files(self, split: Split, source: Source) -> list[tuple[DecodedCache, Sequence[Path]]]:
        """Returns caches and the files that each opens; file i of each belongs to pair i."""
        return [(self.cache, source.paths)]

    def _files_beside(self) -> list[tuple[DecodedCache, Sequence[Path]]]:
        """Returns further files that training opens, and their caches."""
        return []

    def _divided_by_seed(self, split: Split) -> bool:
        """Returns whether the seed decides which images a split holds."""
        return not all(has_part(root, "train") for root in self._roots())

    # Which images ------------------------------------------------------------------------------------------------

    def prepare_data(self) -> None:
        """Decodes the images into the cache, unless they are too many; Lightning calls this in one process per node."""
        stage = None if self.trainer is None else self.trainer.state.fn
        splits = _SPLITS.get("fit" if stage is None else stage.value, ())
        found = [(split, self._find(split)) for split in splits]
        before = [(split, source) for split, source in found if not self._on_use(source)]
        requests = [request for split, source in before for request in self._files(split, source)]
        prepare_all(requests + (self._files_beside() if "train" in splits else []))
        many = [source.paths for _, source in found if isinstance(source.paths, ManyPaths)]
        make_room([shards for paths in many for shards in paths.in_shards()], self.cache.limit)

    def _on_use(self, source: Source) -> bool:
        """Returns whether images are decoded and checked when a sample needs them."""
        return isinstance(source.paths, ManyPaths) and source.paths.read_on_use(self.channels, self.cache.limit)

    def setup(self, stage: str) -> None:
        """Finds the readable images of the splits that the stage needs.

        Raises:
            FileNotFoundError: If a folder is missing or holds no readable image.
        """
        for split in _SPLITS.get(stage, ()):
            if split not in self._sources:
                self._sources[split] = self._without_unreadable(split, self._find(split))

    def _without_unreadable(self, split: Split, source: Source) -> Source:
        if self._on_use(source):
            return source
        problems = [[cache.problem(path) for path in paths] for cache, paths in self._files(split, source)]
        of_pairs = list(zip(*problems, strict=True))
        bad = [reason for reasons in of_pairs for reason in reasons if reason is not None]
        if not bad:
            return source
        warnings.warn(f"skipped {len(bad)} unreadable file(s): {listed(bad, '; ')}", stacklevel=2)
        readable = {path for path, reasons in zip(source.paths, of_pairs, strict=True) if not any(reasons)}
        if not readable:
            raise FileNotFoundError(f"none of the {len(source.paths)} image file(s) under {source.root} can be read")
        return source.restricted(readable)

    def open_images(self, split: Split, most: int) -> Iterator[tuple[Path, NDArray[Any]]]:
        """Yields paths and pixels, H×W×C, of at most `most` readable images of a split, evenly spread, not cropped.

        Raises:
            FileNotFoundError: If the split has no images.
        """
        source = self._find(split, every=True)
        cache, paths = self._files(split, source)[0]
        for i in spread(len(paths), most):
            with suppress(UnreadableImage):  # `setup` names them
                yield paths[i], cache.open(paths[i])

    def image_counts(self) -> dict[Split, int]:
        """Returns the number of readable images in each split that `setup` has found."""
        return {split: len(source.paths) for split, source in self._sources.items()}

    @property
    def _seed(self) -> int:
        return 0 if self.seed is None else self.seed

    # Loaders -----------------------------------------------------------------------------------------------------

    def train_dataloader(self) -> DataLoader[Sample]:
        """Returns the loader of this rank's part of the stream."""
        rank, world = self._place()
        sampler = StreamSampler(self._next_sample, self._batches_in_epoch(), self.batch_size, rank, world)
        workers, pinned = self._workers(), torch.cuda.is_available()
        pairs, kind = self.training_pairs(), DataLoader if workers else AheadLoader
        return self._loader(pairs, self.batch_size, sampler, kind, persistent_workers=workers > 0, pin_memory=pinned)

    def val_dataloader(self) -> DataLoader[Sample]:
        """Returns the loader of the validation images, each with every corruption."""
        return self._evaluation_loader("val", self.val_crop_size)

    def test_dataloader(self) -> DataLoader[Sample]:
        """Returns the loader of the whole test images, each with every corruption."""
        return self._evaluation_loader("test", None)

    def _evaluation_loader(self, split: Split, crop_size: int | None) -> DataLoader[Sample]:
        pairs = self._evaluation_pairs(self._sources[split], crop_size)
        sampler = EvaluationSampler(len(pairs), *self._place())
        return self._loader(pairs, self.evaluation_batch_size, sampler)

    def _loader(
        self,
        pairs: Dataset[Sample],
        size: int,
        sampler: Sampler[Any],
        kind: type[DataLoader[Any]] = DataLoader,
        **options: Any,
    ) -> DataLoader[Sample]:
        options |= {"num_workers": self._workers(), "collate_fn": collate, "worker_init_fn": begin}
        return kind(pairs, batch_size=size, sampler=sampler, **options)

    def transfer_batch_to_device(self, batch: Any, device: torch.device, dataloader_idx: int) -> Any:
        """Moves a batch as Lightning does; leaves one for the CPU as it is, without a look at its every part."""
        return batch if device.type == "cpu" else super().transfer_batch_to_device(batch, device, dataloader_idx)

    def _workers(self) -> int:
        if self.num_workers is not None:
            return self.num_workers
        return 0 if self.trainer is None or self.trainer.strategy.root_device.type == "cpu" else 4

    def _place(self) -> tuple[int, int]:
        """Returns the number of this process, and how many there are; without a Trainer there is one."""
        return (0, 1) if self.trainer is None else (self.trainer.global_rank, self.trainer.world_size)

    # The position in the stream ----------------------------------------------------------------------------------

    def _samples_per_step(self) -> int:
        accumulated = 1 if self.trainer is None else self.trainer.accumulate_grad_batches
        return self.batch_size * self._place()[1] * accumulated

    def _next_sample(self) -> int:
        # global_step alone is not enough: on resuming, workers start before Lightning restores it. Counting from the
        # checkpoint's position also allows a different batch size from there on.
        steps = self._step() - self._base["global_step"]
        return self._base["next_sample"] + max(0, steps) * self._samples_per_step()

    def _step(self) -> int:
        return 0 if self.trainer is None else self.trainer.global_step

    def _batches_in_epoch(self) -> int:
        if self.samples_per_epoch is not None:
            samples = self.samples_per_epoch
        elif self.trainer is not None and self.trainer.max_steps > 0:
            return self.trainer.max_steps * self.trainer.accumulate_grad_batches
        else:
            samples = self._samples_in_epoch()
        return max(1, -(-samples // (self.batch_size * self._place()[1])))

    def _samples_in_epoch(self) -> int:
        """Returns how many samples cover the training images once."""
        cache, paths = self._files("train", self._sources["train"])[0]
        return math.ceil(total(cache.pixels, paths) / self.crop_size**2)

    def state_dict(self) -> dict[str, Any]:
        """Returns the position in the stream, for the checkpoint."""
        return {"next_sample": self._next_sample(), "global_step": self._step(), "seed": self._seed}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Continues at the position of a checkpoint.

        Raises:
            UserError: If the seed differs and decides which images are used: it orders the stream and splits a folder
                without train/, so that training images could end up in the test set.
        """
        stage = None if self.trainer is None else self.trainer.state.fn
        self.check_seed(state_dict["seed"], None if stage is None else stage.value)
        self._base = {key: state_dict[key] for key in self._base}

    def check_seed(self, seed: int, stage: str | None) -> None:
        """Rejects a checkpoint of a training with another seed, if the seed decides which images `stage` uses.

        Raises:
            UserError: If the seeds differ and the seed decides which images are used.
        """
        testing = stage in ("validate", "test")
        divided = testing and self._divided_by_seed("test" if stage == "test" else "val")
        if seed != self._seed and (stage == "fit" or divided):
            raise UserError(
                f"this checkpoint was trained with seed {seed}, not {self._seed}: "
                f"give --seed_everything {seed}, or --model.weights to start another training from it"
            )
