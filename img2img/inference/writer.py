"""Writes restored images to disk as their tiles come, in a separate thread, while the network works on."""

from __future__ import annotations

import errno
import queue
import threading
import time
import warnings
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor

from img2img.errors import printable
from img2img.imaging.values import Pixels
from img2img.inference.jobs import Job, reason_of
from img2img.inference.journal import Journal, Record, failed
from img2img.inference.output_file import OutputFile
from img2img.inference.tiles import Tile, Tiles
from img2img.tasks.gather import gather
from img2img.tiling.geometry import is_blended
from img2img.tiling.planner import TO_WRITE
from img2img.tiling.stitch import kept

PATIENCE = 5.0
"""Seconds that an interrupted run waits for the file that is being written."""


class ImageWriter(Callback):
    """Callback that writes the tiles of `predict` as images.

    Args:
        journal: Where to note what was done; None for a single file.
        after: Functions to call with the job of each finished file; they return scores by name.
        quality: 1 to 100, of JPEG, WebP and AVIF.
        memory: The run's memory limit, noted so that a continued run cuts the same tiles.
        fresh: Whether the run begins, instead of continuing from its journal.

    Attributes:
        records: The record of each file; after predict, those of all processes.
        stopped: Why the run had to end; empty if it did not.
        interrupted: Whether the run ended early.
        megapixels: Megapixels that went through the network.
        seconds: How long the run took.
    """

    def __init__(
        self,
        journal: Journal | None = None,
        after: Iterable[Any] = (),
        quality: int = 95,
        memory: int = 0,
        fresh: bool = True,
    ) -> None:
        self.journal, self.after, self.quality = journal, tuple(after), quality
        self.memory, self.fresh, self.interrupted = memory, fresh, False
        self.records: list[Record] = []
        self.stopped = ""
        self.megapixels = self.seconds = 0.0
        self._waiting: queue.Queue[tuple[Tile | Job, Any] | None] = queue.Queue(TO_WRITE)
        self._files: dict[str, OutputFile] = {}
        self._given_up: set[str] = set()
        self._ending = threading.Event()
        self._thread: threading.Thread | None = None
        self._rank = 0

    # In the main thread ------------------------------------------------------------------------------------------

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Begins the journal, before any process writes.

        Raises:
            UserError: If another run is writing into the folder, or it cannot be written to.
        """
        if self.journal is not None and trainer.is_global_zero:
            self.journal.begin(self.memory, self.fresh)

    def on_predict_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Starts the thread."""
        self._rank, self._began = trainer.global_rank, time.monotonic()
        self._thread = threading.Thread(target=self._work, name="write", daemon=True)
        self._thread.start()

    def on_predict_batch_start(self, trainer: Trainer, *args: Any) -> None:
        """Notes the time."""
        self._batch_began = time.monotonic()

    def on_predict_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: dict[str, Any],
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Hands the tiles of a batch to the thread.

        Raises:
            KeyboardInterrupt: If nothing more can be written; finished files are kept.
        """
        tiles: Tiles = batch["tiles"]
        seconds = (time.monotonic() - self._batch_began) / max(1, len(tiles.tiles))
        if tiles.job is not None:
            self._put((tiles.job, tiles.problem))
        for tile, output in zip(tiles.tiles, outputs if tiles.tiles else (), strict=True):
            self.megapixels += tile.megapixels
            if not tile.wanted or tile.job.name in self._given_up:
                continue
            scale = getattr(pl_module, "scale", 1)
            part = kept(output, tile.tiling, tile.row, tile.column, scale)
            try:
                self._put((tile, (*_planes(part, tile), scale, seconds)))
            except ValueError as error:
                self._put((tile.job, f"{tile.job.source}: {error}"))
        if self.stopped:
            if self._rank > 0:  # the first process cannot report the reason of others that end now
                warnings.warn(printable(f"stopped: {self.stopped}"), stacklevel=2)
            raise KeyboardInterrupt

    def _put(self, item: tuple[Tile | Job, Any] | None) -> None:
        while self._thread is not None and self._thread.is_alive():
            try:
                self._waiting.put(item, timeout=0.2)
            except queue.Full:
                continue
            return

    def on_predict_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Waits for the thread, and gathers the records of all processes."""
        if self._thread is not None:
            self._put(None)
            self._thread.join()
        self.seconds = time.monotonic() - self._began
        self.records, self.stopped = gather(self.records), next(filter(None, gather([self.stopped])), "")
        self.megapixels = sum(gather([self.megapixels]))

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Ends the thread soon: it finishes the file that it is writing and gives the others up."""
        self.interrupted = True
        self._ending.set()
        if self._thread is not None:
            self._thread.join(PATIENCE)
            self.seconds = time.monotonic() - self._began

    # In the thread -----------------------------------------------------------------------------------------------

    def _work(self) -> None:
        try:
            while not self._ending.is_set():
                try:
                    item = self._waiting.get(timeout=0.1)
                except queue.Empty:
                    continue
                if item is None:
                    break
                self._handle(*item)
        except Exception as error:  # the journal failed, not one file: nothing more can be noted
            self.stopped = f"{self.journal.folder if self.journal else 'the output'} cannot be written: {error}"
        finally:
            for file in self._files.values():
                file.abort()
            self._files.clear()

    def _handle(self, what: Tile | Job, more: Any) -> None:
        job = what.job if isinstance(what, Tile) else what
        if job.name in self._given_up:
            return
        try:
            if isinstance(what, Job):
                raise ValueError(more)
            self._lay(what, *more)
        except Exception as error:  # whatever is wrong with one file, it is reported, and the others go on
            self._give_up(job, error)

    def _lay(self, tile: Tile, pixels: Pixels, sigma: Pixels | None, scale: int, seconds: float) -> None:
        job = tile.job
        if job.name not in self._files:
            self._files[job.name] = OutputFile(tile, pixels, scale, self.quality)
        file = self._files[job.name]
        if not file.put(tile, pixels, sigma, seconds):
            return
        if self.journal is not None:
            self.journal.note_begun(job.name, self._rank)
        record = file.finish()
        del self._files[job.name]
        scores: dict[str, float] = {}
        for follow in self.after:
            try:
                scores |= follow(job)
            except Exception as error:  # whatever it is, the image itself is written
                record = replace(record, reason=f"{job.destination}: {error}")
        self._note(replace(record, scores=scores))

    def _give_up(self, job: Job, error: Exception) -> None:
        self._given_up.add(job.name)
        if job.name in self._files:
            self._files.pop(job.name).abort()
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
            places = " or ".join(str(path.parent) for path in (job.destination, job.map) if path is not None)
            self.stopped = f"the disk of {places} is full"
            self._ending.set()
            return
        self._note(failed(job, reason_of(error, job.source)))

    def _note(self, record: Record) -> None:
        self.records.append(record)
        if self.journal is not None:
            self.journal.note(record, self._rank)


def _planes(part: Tensor, tile: Tile) -> tuple[Pixels, Pixels | None]:
    """Splits the network's C×H×W into the image, H×W×C of the file's depth, and the map, H×W×1 of 16 bits.

    Both are floats if tiles are still to be blended. If a map is wanted, it is the last channel.

    Raises:
        ValueError: If a value is NaN.
    """
    if torch.isnan(part).any():
        raise ValueError("the network's output is not a number (NaN)")
    blended = is_blended(tile.tiling)
    image, sigma = (part, None) if tile.job.map is None else (part[:-1], part[-1:])
    pixels = _pixels(image, np.dtype(np.float32) if blended else tile.header.dtype)
    return pixels, None if sigma is None else _pixels(sigma, np.dtype(np.float32 if blended else np.uint16))


def _pixels(part: Tensor, dtype: np.dtype[Any]) -> Pixels:
    part = part.float().clamp(0, 1).permute(1, 2, 0)
    if dtype == np.float32:
        return part.cpu().numpy()
    levels = 255 if dtype == np.uint8 else 65535
    return (part * levels).round().to(torch.int32 if levels > 255 else torch.uint8).cpu().numpy().astype(dtype)
