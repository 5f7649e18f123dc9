"""The images to restore, as batches of tiles that are divided among the processes."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from lightning.pytorch import LightningDataModule

from img2img.inference.groups import shard
from img2img.inference.jobs import Job
from img2img.inference.masks import MaskFinder
from img2img.inference.room import Room
from img2img.inference.strength import FULL, Strength
from img2img.inference.tiles import TilingOf, read_ahead, tile_batches
from img2img.tiling.planner import READ_AHEAD


class TileDataModule(LightningDataModule):
    """The data of `img2img restore` and `predict`.

    Args:
        groups: Lists of files that go through the network together, in this order.
        tiling_of: Returns how to cut an image.
        masks: Finds the images' masks; None for models that take no masks.
        done: Names of finished outputs. Groups of finished files are left out; in other groups, finished files go
            through the network again, so that the batch is the same, but are not written.
        room: The memory that files share; None to read on without waiting for the writer.
        strength: How much of the restoration to keep.
    """

    def __init__(
        self,
        groups: Sequence[list[Job]],
        tiling_of: TilingOf,
        masks: MaskFinder | None = None,
        done: Collection[str] = (),
        room: Room | None = None,
        strength: Strength = FULL,
    ) -> None:
        super().__init__()
        self.groups, self.tiling_of, self.masks, self.done = groups, tiling_of, masks, frozenset(done)
        self.room, self.strength = room, strength

    def predict_dataloader(self) -> Batches:
        """Returns the batches of this process; the first process decides what is left to do."""
        if self.trainer is None:
            raise RuntimeError("TileDataModule needs a Trainer; call trainer.predict(module, datamodule=…)")
        trainer = self.trainer
        groups, done = trainer.strategy.broadcast((self.groups, self.done))
        waiting = [group for group in groups if any(job.name not in done for job in group)]
        mine = shard(waiting, trainer.global_rank, trainer.world_size)
        megapixels = sum(job.pixels for group in mine for job in group) / 1e6
        how = (self.tiling_of, self.masks, done, self.room, self.strength)
        return Batches(lambda: tile_batches(mine, *how), megapixels)


@dataclass(frozen=True)
class Batches:
    """Batches that `make` yields and a thread reads ahead."""

    make: Callable[[], Iterator[dict[str, Any]]]
    megapixels: float  # of the files that go through the network

    def __iter__(self) -> Iterator[dict[str, Any]]:
        return read_ahead(self.make(), READ_AHEAD)
