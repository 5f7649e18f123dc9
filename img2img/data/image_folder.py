"""Images to restore, in tiles, shared among the processes."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from typing import Any

from lightning.pytorch import LightningDataModule

from img2img.data.holes import HoleFinder
from img2img.data.tiles import TilingOf, read_ahead, tile_batches
from img2img.data.worklist import Job, share

AHEAD = 2
"""Batches that are read while the network works."""


class ImageFolder(LightningDataModule):
    """The data of `img2img restore` and `predict`.

    Args:
        groups: The files, those that go through the network together in one list; the largest first.
        tiling_of: How to cut an image.
        finder: Where their holes are; None for images without.
        done: Names of outputs that are there already. Groups that are done entirely are left out; of others the done
            files go through the network again, so that the batch is the same, but not to disk.
    """

    def __init__(
        self,
        groups: Sequence[list[Job]],
        tiling_of: TilingOf,
        finder: HoleFinder | None = None,
        done: Collection[str] = (),
    ) -> None:
        super().__init__()
        self.groups, self.tiling_of, self.finder, self.done = groups, tiling_of, finder, frozenset(done)

    def predict_dataloader(self) -> Batches:
        """Returns this process's share, as the first process sees the work: an iterable of batches."""
        if self.trainer is None:
            raise RuntimeError("ImageFolder makes its loader for a Trainer; call trainer.predict(task, datamodule=…)")
        trainer = self.trainer
        groups, done = trainer.strategy.broadcast((self.groups, self.done))
        waiting = [group for group in groups if any(job.name not in done for job in group)]
        return Batches(share(waiting, trainer.global_rank, trainer.world_size), self.tiling_of, self.finder, done)


class Batches:
    """The batches of some files, read by a thread; see `tile_batches`.

    Attributes:
        megapixels: Of all files that go through the network.
    """

    def __init__(
        self, groups: Sequence[list[Job]], tiling_of: TilingOf, finder: HoleFinder | None, done: Collection[str]
    ) -> None:
        self.groups, self.tiling_of, self.finder, self.done = groups, tiling_of, finder, done
        self.megapixels = sum(job.pixels for group in groups for job in group) / 1e6

    def __iter__(self) -> Iterator[dict[str, Any]]:
        return read_ahead(tile_batches(self.groups, self.tiling_of, self.finder, self.done), AHEAD)
