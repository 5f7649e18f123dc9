"""The progress bar of restoring, in megapixels because files differ in size."""

from __future__ import annotations

from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer
from tqdm import tqdm

from img2img.inference.loader import Batches
from img2img.inference.tiles import Tiles


class RestoreProgress(Callback):
    """Shows the work of the first process: megapixels done, MP/s and time left."""

    def __init__(self) -> None:
        self._bar = tqdm(disable=True)  # until the amount of work is known

    def on_predict_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Opens the bar."""
        loader = trainer.predict_dataloaders
        total = loader.megapixels if isinstance(loader, Batches) else None
        self._bar = tqdm(
            total=total,
            desc="Restoring",
            unit="MP",
            disable=not trainer.is_global_zero,
            dynamic_ncols=True,
            bar_format="{desc} {percentage:3.0f}%|{bar}| {n:.1f}/{total:.1f} MP [{elapsed}<{remaining}, {rate_fmt}]",
        )

    def on_predict_batch_end(self, trainer: Trainer, pl_module: Any, outputs: Any, batch: Any, *args: Any) -> None:
        """Advances by the kept parts of the batch's tiles."""
        tiles: Tiles = batch["tiles"]
        left = float("inf") if self._bar.total is None else max(0.0, self._bar.total - self._bar.n)
        self._bar.update(min(sum(tile.megapixels for tile in tiles.tiles), left))

    def on_predict_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Closes the bar."""
        self._bar.close()

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Closes the bar, so that the next message gets its own line."""
        self._bar.close()
