"""The data module that makes pairs from clean images: geometry for both, corruption for the input."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import albumentations
import cv2
import torch
from lightning.pytorch import LightningDataModule, Trainer
from torch.utils.data import DataLoader

from img2img.corruptions import GaussianNoise
from img2img.data.cache import DecodedCache
from img2img.data.folders import Source, Split, find_split, resolve_root, whole_folder
from img2img.data.image_folder import predict_loader
from img2img.data.pairs import EvaluationPairs, Sample, TrainingPairs, Transform, collate
from img2img.data.stream import EvaluationSampler, StreamSampler
from img2img.errors import UserError

MAX_NAMED = 10  # unreadable files named in the warning


class CorruptedPairs(LightningDataModule):
    """Clean images in, (corrupted, clean) pairs out.

    Training is an endless numbered stream whose sample n depends on (seed, n) alone (see `img2img.data.stream`);
    validation and test corrupt each image by (seed, image) alone.

    Args:
        root: Folder with train/, val/ and test/, or one folder of images that is divided, or `starter`, the set that
            comes with the program. Searched recursively.
        crop_size: Side of the square training crops, in pixels; smaller images are padded by reflection.
        batch_size: Crops in a batch, for each process.
        corruption: Albumentations transforms that make the input from a copy of the target; None for blind Gaussian
            noise with sigma in [0, 55].
        evaluation: Corruptions of validation and test by name; None for sigma15, sigma25 and sigma50.
        geometry: Albumentations transforms that input and target share, after the crop; None for the eight
            symmetries of the square.
        channels: 3 for RGB, 1 for gray; images are converted.
        val_dir: Folder of validation images, instead of the root's.
        test_dir: Folder of test images, instead of the root's.
        predict_dir: Folder of the images to restore with `predict`.
        share: Share of the images for val, and for test, where one folder is divided.
        val_crop_size: Validation looks at the centre square of this side, test at whole images; None for whole ones.
        val_images: Validation looks at no more than so many images of the root, evenly spread; None for all.
        num_workers: Processes that prepare samples; None for four a GPU, and none on CPUs, whose cores the network
            needs.
        cache_gb: Size limit of the decoded-image cache, in 10^9 bytes; 0 switches it off.
        samples_per_epoch: Crops in an epoch; None for the whole run where `trainer.max_steps` says how long it is,
            else for as many as cover the training images once.
        seed: Seed of the stream; None for that of `seed_everything`.

    Raises:
        UserError: If a number is out of its range.
    """

    def __init__(
        self,
        root: str = "starter",
        crop_size: int = 128,
        batch_size: int = 12,
        corruption: list[Transform] | None = None,
        evaluation: dict[str, list[Transform]] | None = None,
        geometry: list[Transform] | None = None,
        channels: Literal[1, 3] = 3,
        val_dir: str | None = None,
        test_dir: str | None = None,
        predict_dir: str | None = None,
        share: float = 0.1,
        val_crop_size: int | None = 512,
        val_images: int | None = 16,
        num_workers: int | None = None,
        cache_gb: float = 16.0,
        samples_per_epoch: int | None = None,
        seed: int | None = None,
    ) -> None:
        super().__init__()
        for name, value in (("crop_size", crop_size), ("batch_size", batch_size), ("val_images", val_images)):
            if value is not None and value < 1:
                raise UserError(f"{name} must be at least 1, not {value}")
        if not 0 < share < 0.5:
            raise UserError(f"share must lie between 0 and 0.5, not {share}")
        self.root, self.crop_size, self.batch_size, self.share = root, crop_size, batch_size, share
        self.val_dir, self.test_dir, self.predict_dir = val_dir, test_dir, predict_dir
        self.val_crop_size, self.val_images = val_crop_size, val_images
        self.num_workers, self.samples_per_epoch, self.seed = num_workers, samples_per_epoch, seed
        self.corruption = [GaussianNoise()] if corruption is None else corruption
        self.evaluation = _standard_noise() if evaluation is None else evaluation
        symmetries: list[Transform] = [albumentations.D4(p=1.0)] if geometry is None else geometry
        self.geometry = [_random_crop(crop_size), *symmetries]
        for transforms in (self.corruption, *self.evaluation.values()):
            _warn_of_clipping(transforms)
        self.cache = DecodedCache(channels, cache_gb)
        self._sources: dict[Split, Source] = {}
        self._base = {"next_sample": 0, "global_step": 0}

    # Which images ------------------------------------------------------------------------------------------------

    def prepare_data(self) -> None:
        """Decodes the images into the cache; Lightning calls this in one process a node."""
        stage = None if self.trainer is None else self.trainer.state.fn
        splits = self._splits_in_use("fit" if stage is None else stage.value)
        self.cache.prepare([path for split in splits for path in self._find(split).paths])

    def setup(self, stage: str) -> None:
        """Finds the readable images of the splits that the stage needs.

        Raises:
            FileNotFoundError: If a folder is missing or holds no readable image.
        """
        for split in self._splits_in_use(stage):
            if split not in self._sources:
                self._sources[split] = self._without_unreadable(self._find(split))

    def _splits_in_use(self, stage: str) -> tuple[Split, ...]:
        splits: dict[str, tuple[Split, ...]] = {"fit": ("train", "val"), "validate": ("val",), "test": ("test",)}
        return splits.get(stage, ())

    def _find(self, split: Split) -> Source:
        own_folder = {"val": self.val_dir, "test": self.test_dir}.get(split)
        if own_folder is not None:
            return whole_folder(resolve_root(own_folder))
        source = find_split(resolve_root(self.root), split, self._seed, self.share)
        count = len(source.paths)
        if split == "val" and self.val_images is not None and count > self.val_images:
            spread = (source.paths[i * count // self.val_images] for i in range(self.val_images))
            source = Source(source.root, tuple(spread))
        return source

    def _without_unreadable(self, source: Source) -> Source:
        problems = {path: self.cache.problem(path) for path in source.paths}
        bad = [reason for reason in problems.values() if reason is not None]
        if bad:
            more = f"; and {len(bad) - MAX_NAMED} more" if len(bad) > MAX_NAMED else ""
            warnings.warn(f"skipped {len(bad)} unreadable file(s): {'; '.join(bad[:MAX_NAMED])}{more}", stacklevel=2)
        readable = tuple(path for path, reason in problems.items() if reason is None)
        if not readable:
            raise FileNotFoundError(f"none of the {len(source.paths)} image file(s) under {source.root} can be read")
        return Source(source.root, readable)

    @property
    def _seed(self) -> int:
        return 0 if self.seed is None else self.seed

    def training_pairs(self) -> TrainingPairs:
        """Returns the stream, whose item n is sample n; after `setup("fit")`."""
        return TrainingPairs(self._sources["train"], self.cache, self.geometry, self.corruption, self._seed)

    # Loaders -----------------------------------------------------------------------------------------------------

    def train_dataloader(self) -> DataLoader[Sample]:
        """Returns the loader of this rank's share of the stream."""
        trainer = self._require_trainer()
        sampler = StreamSampler(
            self._next_sample,
            self._batches_in_epoch(),
            self.batch_size,
            trainer.global_rank,
            trainer.world_size,
        )
        workers = self._workers()
        return DataLoader(
            self.training_pairs(),
            batch_size=self.batch_size,
            sampler=sampler,
            collate_fn=collate,
            num_workers=workers,
            persistent_workers=workers > 0,
            pin_memory=torch.cuda.is_available(),
        )

    def val_dataloader(self) -> DataLoader[Sample]:
        """Returns the loader of the validation images, one at a time, each with every corruption of `evaluation`."""
        return self._evaluation_loader("val", self.val_crop_size)

    def test_dataloader(self) -> DataLoader[Sample]:
        """Returns the loader of the whole test images, one at a time, each with every corruption."""
        return self._evaluation_loader("test", None)

    def predict_dataloader(self) -> DataLoader[Any]:
        """Returns the loader of the images to restore.

        Raises:
            UserError: If `predict_dir` was not given.
        """
        if self.predict_dir is None:
            raise UserError("predict needs --data.predict_dir, the folder of the images to restore")
        trainer = self._require_trainer()
        return predict_loader(
            Path(self.predict_dir).expanduser(), self._workers(), trainer.global_rank, trainer.world_size
        )

    def _evaluation_loader(self, split: Split, crop_size: int | None) -> DataLoader[Sample]:
        pairs = EvaluationPairs(self._sources[split], self.cache, self.evaluation, self._seed, crop_size)
        trainer = self._require_trainer()
        sampler = EvaluationSampler(len(pairs), trainer.global_rank, trainer.world_size)
        return DataLoader(pairs, batch_size=1, sampler=sampler, collate_fn=collate, num_workers=self._workers())

    def _workers(self) -> int:
        if self.num_workers is not None:
            return self.num_workers
        return 0 if self._require_trainer().strategy.root_device.type == "cpu" else 4

    def _require_trainer(self) -> Trainer:
        if self.trainer is None:
            raise RuntimeError("CorruptedPairs makes its loaders for a Trainer; call trainer.fit(task, datamodule=…)")
        return self.trainer

    # The position in the stream ----------------------------------------------------------------------------------

    def _samples_per_step(self) -> int:
        trainer = self._require_trainer()
        return self.batch_size * trainer.world_size * trainer.accumulate_grad_batches

    def _next_sample(self) -> int:
        # global_step alone would not do: on resuming, workers are primed before Lightning restores it. Counting from
        # the checkpoint's own position also allows another batch size from there on.
        steps = self._require_trainer().global_step - self._base["global_step"]
        return self._base["next_sample"] + max(0, steps) * self._samples_per_step()

    def _batches_in_epoch(self) -> int:
        trainer = self._require_trainer()
        if self.samples_per_epoch is not None:
            samples = self.samples_per_epoch
        elif trainer.max_steps > 0:
            return trainer.max_steps * trainer.accumulate_grad_batches
        else:
            opened = (self.cache.open(path) for path in self._sources["train"].paths)
            samples = -(-sum(image.shape[0] * image.shape[1] for image in opened) // self.crop_size**2)
        return max(1, -(-samples // (self.batch_size * trainer.world_size)))

    def state_dict(self) -> dict[str, Any]:
        """Returns the position in the stream, for the checkpoint."""
        step = self._require_trainer().global_step
        return {"next_sample": self._next_sample(), "global_step": step, "seed": self._seed}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Goes on at the position of a checkpoint.

        Raises:
            UserError: If the seed is another where it decides what is trained on: it orders the stream, and divides a
                folder that has no train/ of its own, so that images trained on would be tested with.
        """
        stage = self._require_trainer().state.fn
        training, testing = stage == "fit", stage in ("validate", "test")
        own_folder = self.test_dir if stage == "test" else self.val_dir
        divided = testing and own_folder is None and not (resolve_root(self.root) / "train").is_dir()
        if state_dict["seed"] != self._seed and (training or divided):
            raise UserError(
                f"this checkpoint was trained with seed {state_dict['seed']}, not {self._seed}: "
                f"give --seed_everything {state_dict['seed']}, or --model.weights to start another training from it"
            )
        self._base = {key: state_dict[key] for key in self._base}


def _standard_noise() -> dict[str, list[Transform]]:
    return {f"sigma{sigma}": [GaussianNoise(sigma)] for sigma in (15, 25, 50)}


def _random_crop(size: int) -> Transform:
    crop: Transform = albumentations.RandomCrop(
        size, size, pad_if_needed=True, border_mode=cv2.BORDER_REFLECT_101, p=1.0
    )
    return crop


def _warn_of_clipping(transforms: Sequence[Transform]) -> None:
    """Warns where albumentations would clip noise that is meant to be unclipped."""
    unclipped = [getattr(transform, "unclipped", False) for transform in transforms]
    for first, second, transform in zip(unclipped, unclipped[1:], transforms, strict=False):
        if first and not second:
            warnings.warn(
                f"{type(transform).__name__} adds unclipped noise but is not last in the corruption: "
                "the albumentations transforms after it clip to [0, 1]",
                stacklevel=3,
            )
