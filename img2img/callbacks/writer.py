"""Restored images go to disk as their tiles come, in a thread of its own, while the network works on the next."""

from __future__ import annotations

import errno
import queue
import signal
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np
import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor

from img2img.callbacks.journal import Journal, Record, failed
from img2img.callbacks.unfinished import Unfinished
from img2img.data.tiles import Tile, Tiles
from img2img.data.worklist import Job, reason_of
from img2img.errors import printable
from img2img.imaging.tiling import is_blended
from img2img.imaging.values import Pixels
from img2img.tasks.gather import gather
from img2img.tasks.tiled import kept

WAITING = 3
"""Tiles that may wait to be written."""
PATIENCE = 5.0
"""Seconds that an interrupted run gives the file that is being written."""


class ImageWriter(Callback):
    """Writes the tiles of `predict` as images.

    Args:
        journal: Where to note what was done; None for a single file.
        after: What else to do with each finished file: it gets the job, and returns scores by name.
        quality: 1 to 100, of JPEG, WebP and AVIF.
        memory: What the run may take, to be noted: a run that goes on cuts the same tiles.
        fresh: Whether the run begins, rather than going on with what its journal says.

    Attributes:
        records: What became of each file; after predict, of all processes.
        fatal: Why the run had to end, where it had to.
        interrupted: Whether it ended before its time.
        megapixels: What went through the network.
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
        self.fatal = ""
        self.megapixels = self.seconds = 0.0
        self._waiting: queue.Queue[tuple[Tile | Job, Any] | None] = queue.Queue(WAITING)
        self._files: dict[str, Unfinished] = {}
        self._given_up: set[str] = set()
        self._stopped = threading.Event()
        self._thread: threading.Thread | None = None
        self._rank = 0

    # In the main thread ------------------------------------------------------------------------------------------

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Begins the journal, before any process writes.

        Raises:
            UserError: If another run writes into the folder.
        """
        if self.journal is not None and trainer.is_global_zero:
            self.journal.begin(self.memory, self.fresh)

    def on_predict_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Starts the thread, and lets SIGTERM end the run as Ctrl-C does."""
        self._rank, self._began = trainer.global_rank, time.monotonic()
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, interrupt)  # once more, for Lightning has put its own before it
        self._thread = threading.Thread(target=self._work, name="write", daemon=True)
        self._thread.start()

    def on_predict_batch_start(self, trainer: Trainer, *args: Any) -> None:
        """Looks at the clock."""
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
            KeyboardInterrupt: If the disk is full; what is done is kept.
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
        if self.fatal:
            if self._rank > 0:  # the first process says it of itself, but cannot of others that end now
                print(printable(f"stopped: {self.fatal}"), file=sys.stderr)
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
        self.records, self.fatal = gather(self.records), next(filter(None, gather([self.fatal])), "")
        self.megapixels = sum(gather([self.megapixels]))

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Ends the thread soon: the file that it is writing is finished, the others are given up."""
        self.interrupted = True
        self._stopped.set()
        if self._thread is not None:
            self._thread.join(PATIENCE)
            self.seconds = time.monotonic() - self._began

    # In the thread -----------------------------------------------------------------------------------------------

    def _work(self) -> None:
        try:
            while not self._stopped.is_set():
                try:
                    item = self._waiting.get(timeout=0.1)
                except queue.Empty:
                    continue
                if item is None:
                    break
                self._handle(*item)
        except Exception as error:  # not of one file, but of the journal: nothing more can be trusted to be noted
            self.fatal = f"{self.journal.folder if self.journal else 'the output'} cannot be written: {error}"
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
        except Exception as error:  # whatever happened to one file, it is named, and the others go on
            self._give_up(job, error)

    def _lay(self, tile: Tile, pixels: Pixels, sigma: Pixels | None, scale: int, seconds: float) -> None:
        job = tile.job
        if job.name not in self._files:
            self._files[job.name] = Unfinished(tile, pixels, scale, self.quality)
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
            except Exception as error:  # whatever it is, the image itself is there
                record = replace(record, reason=f"{job.destination}: {error}")
        self._note(replace(record, scores=scores))

    def _give_up(self, job: Job, error: Exception) -> None:
        self._given_up.add(job.name)
        if job.name in self._files:
            self._files.pop(job.name).abort()
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
            places = " or ".join(str(path.parent) for path in (job.destination, job.map) if path is not None)
            self.fatal = f"the disk of {places} is full"
            self._stopped.set()
            return
        self._note(failed(job, reason_of(error, job.source)))

    def _note(self, record: Record) -> None:
        self.records.append(record)
        if self.journal is not None:
            self.journal.note(record, self._rank)


def interrupt(number: int, frame: FrameType | None) -> None:
    """Handles a signal as Ctrl-C is handled."""
    raise KeyboardInterrupt


def _planes(part: Tensor, tile: Tile) -> tuple[Pixels, Pixels | None]:
    """Returns the image, H×W×C of the file's depth, and the map, H×W×1 of 16 bits, of C×H×W of the network.

    Floats where tiles are still to be blended. The map is the last channel, where one is wanted.

    Raises:
        ValueError: If a value is not a number.
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


def say(records: Iterable[Record], where: Path) -> None:
    """Prints what was written, and on stderr what was not and why."""
    records = list(records)
    counts = Counter(record.status for record in records)
    there = f", {counts['skipped']} were there already" if counts["skipped"] else ""
    not_restored = f", {counts['failed']} could not be restored" if counts["failed"] else ""
    print(printable(f"Restored {counts['restored']} image(s) into {where}{there}{not_restored}"))
    for record in records:
        if record.status == "failed":
            print(printable(f"not restored: {record.reason}"), file=sys.stderr)
