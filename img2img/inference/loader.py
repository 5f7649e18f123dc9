"""The images to restore, as batches of tiles that are divided among the processes."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from typing import Any

from lightning.pytorch import LightningDataModule

from img2img.inference.jobs import Job, shard
from img2img.inference.masks import MaskFinder
from img2img.inference.tiles import TilingOf, read_ahead, tile_batches
from img2img.tiling.planner import READ_AHEAD


class TileDataModule(LightningDataModule):
    """The data of `img2img restore` and `predict`.

    Args:
        groups: Lists of files that go through the network together, the largest first.
        tiling_of: Returns how to cut an image.
        masks: Finds the images' masks; None for models that take no masks.
        done: Names of finished outputs. Groups of finished files are left out. In other groups, finished files go
            through the network again, so that the batch is the same, but are not written.
    """

    def __init__(
        self,
        groups: Sequence[list[Job]],
        tiling_of: TilingOf,
        masks: MaskFinder | None = None,
        done: Collection[str] = (),
    ) -> None:
        super().__init__()
        self.groups, self.tiling_of, self.masks, self.done = groups, tiling_of, masks, frozenset(done)

    def predict_dataloader(self) -> Batches:
        """Returns the batches of this process; the first process decides what is left to do."""
        if self.trainer is None:
            raise RuntimeError(
                "TileDataModule makes its loader for a Trainer; call trainer.predict(task, datamodule=…)"
            )
        trainer = self.trainer
        groups, done = trainer.strategy.broadcast((self.groups, self.done))
        waiting = [group for group in groups if any(job.name not in done for job in group)]
        return Batches(shard(waiting, trainer.global_rank, trainer.world_size), self.tiling_of, self.masks, done)


class Batches:
    """The batches of some files, read ahead by a thread; see `tile_batches`.

    Attributes:
        megapixels: Megapixels of all files that go through the network.
    """

    def __init__(
        self, groups: Sequence[list[Job]], tiling_of: TilingOf, masks: MaskFinder | None, done: Collection[str]
    ) -> None:
        self.groups, self.tiling_of, self.masks, self.done = groups, tiling_of, masks, done
        self.megapixels = sum(job.pixels for group in groups for job in group) / 1e6

    def __iter__(self) -> Iterator[dict[str, Any]]:
        return read_ahead(tile_batches(self.groups, self.tiling_of, self.masks, self.done), READ_AHEAD)
