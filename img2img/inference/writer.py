"""Writes restored images to disk as their tiles come, in a separate thread, while the network works on."""

from __future__ import annotations

import errno
import queue
import threading
import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor

from img2img.distributed import Launcher
from img2img.imaging.values import Pixels
from img2img.inference.jobs import Job, reason_of
from img2img.inference.journal import Journal, Record, failed
from img2img.inference.options import WHITE_SIGMA
from img2img.inference.output_file import OutputFile
from img2img.inference.processes import PATIENCE as PATIENCE_ALIVE
from img2img.inference.processes import PATIENCE_NETWORK, Processes
from img2img.inference.room import Room
from img2img.inference.tiles import Tile, Tiles
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
        room: The memory that files share, which each leaves at its end.

    Attributes:
        records: The record of each file that this process reached.
        stopped: Why the run had to end, or another process did; empty if none had to.
        interrupted: Whether the run ended early.
        shared: Whether several processes share the files; the journal then has the records of all.
        without_first: Whether the first process, which writes the report, was lost.
        megapixels: Megapixels that went through the network, at the end those of all processes.
        seconds: How long the run took.
    """

    def __init__(
        self, journal: Journal | None, after: Sequence[Any], quality: int, memory: int, fresh: bool, room: Room
    ) -> None:
        self.room = room
        self.journal, self.after, self.quality, self.memory, self.fresh = journal, after, quality, memory, fresh
        self.records: list[Record] = []
        self.stopped, self.interrupted, self.shared, self.without_first = "", False, False, False
        self.megapixels = self.seconds = 0.0
        self._waiting: queue.Queue[tuple[Tile | Job, Any] | None] = queue.Queue(TO_WRITE)
        self._files: dict[str, OutputFile] = {}
        self._given_up: set[str] = set()
        self._ending = threading.Event()
        self._thread: threading.Thread | None = None
        self._rank = 0
        self._processes: Processes | None = None

    # In the main thread ------------------------------------------------------------------------------------------

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Begins the journal, before any process writes.

        Raises:
            UserError: If another run is writing into the folder, or it cannot be written to.
        """
        if self.journal is not None and trainer.is_global_zero:
            self.journal.begin(self.memory, self.fresh)

    def on_predict_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Starts the thread, and the signs of life if there are several processes."""
        self._rank, self._began = trainer.global_rank, time.monotonic()
        if self.journal is not None and trainer.world_size > 1:
            patience = PATIENCE_NETWORK if trainer.num_nodes > 1 else PATIENCE_ALIVE
            self.shared = True
            run = trainer.strategy.broadcast(time.time_ns())
            launcher = trainer.strategy.launcher
            self._processes = Processes(
                self.journal.hidden,
                run,
                self._rank,
                trainer.world_size,
                patience,
                launcher.gone if isinstance(launcher, Launcher) else tuple,
                self._stop_without_first,
            )
        self._thread = threading.Thread(target=self._work, name="write", daemon=True)
        self._thread.start()

    def on_predict_batch_start(self, trainer: Trainer, *args: Any) -> None:
        """Notes the time."""
        self._batch_began = time.monotonic()

    def on_predict_batch_end(self, trainer: Trainer, pl_module: Any, outputs: Any, batch: Any, *args: Any) -> None:
        """Hands the tiles of a batch to the thread.

        Raises:
            KeyboardInterrupt: If nothing more can be written; finished files are kept.
        """
        tiles: Tiles = batch["tiles"]
        seconds = (time.monotonic() - self._batch_began) / max(1, len(tiles.tiles))
        if tiles.job is not None:
            self._put((tiles.job, tiles.problem))
        scale = getattr(pl_module, "scale", 1)
        for tile, output in zip(tiles.tiles, outputs if tiles.tiles else (), strict=True):
            self.megapixels += tile.megapixels
            if not tile.wanted or tile.job.name in self._given_up:
                continue
            part = kept(output, tile.tiling, tile.row, tile.column, scale)
            try:
                self._put((tile, (*_planes(part, tile), scale, seconds)))
            except ValueError as error:
                self._put((tile.job, f"{tile.job.source}: {error}"))
        if self.stopped:
            raise KeyboardInterrupt

    def _stop_without_first(self) -> None:
        self.without_first = True
        self.stopped = self.stopped or "the first process was lost"

    def _put(self, item: tuple[Tile | Job, Any] | None) -> None:
        while self._thread is not None and self._thread.is_alive():
            try:
                return self._waiting.put(item, timeout=0.2)
            except queue.Full:
                continue

    def on_predict_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Waits for the thread, and for the other processes, but not for lost ones."""
        if self._thread is not None:
            self._put(None)
            self._thread.join()
        if self._processes is not None:
            self._processes.end(not self.stopped, self.megapixels, self.stopped)
            signs, lost = self._processes.wait(), self._processes.lost()
            self.megapixels += sum(sign.megapixels for sign in signs)
            self.stopped = next(filter(None, (self.stopped, *(sign.stopped for sign in signs))), "")
            self.without_first = self.without_first or 0 in lost
            if lost and not self.stopped:
                numbers = ", ".join(map(str, lost))
                self.stopped = f"process {numbers} of {trainer.world_size} (the first is 0) was lost"
        self.seconds = time.monotonic() - self._began

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Ends the thread soon: it finishes the file that it is writing and gives the others up."""
        self.interrupted = True
        self._ending.set()
        if self._thread is not None:
            self._thread.join(PATIENCE)
            self.seconds = time.monotonic() - self._began
        if self._processes is not None:
            self._processes.end(False, self.megapixels, self.stopped)

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
            self.room.close()
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
            self._write(what, *more)
        except Exception as error:  # whatever is wrong with one file, it is reported, and the others go on
            self._give_up(job, error)

    def _write(self, tile: Tile, pixels: Pixels, sigma: Pixels | None, scale: int, seconds: float) -> None:
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
        self.room.leave(job)

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
        self.room.leave(job)

    def _note(self, record: Record) -> None:
        self.records.append(record)
        if self.journal is not None:
            self.journal.note(record, self._rank)


def _planes(part: Tensor, tile: Tile) -> tuple[Pixels, Pixels | None]:
    """Splits the network's C×H×W into the image, H×W×C of the file's depth, and the map if wanted, H×W×1 of 16 bits.

    Both are floats if tiles are still to be blended. The map is the last channel. NaN is an error.
    """
    if torch.isnan(part).any():
        raise ValueError("the network's output is not a number (NaN)")
    blended = is_blended(tile.tiling)
    image, sigma = (part, None) if tile.job.map is None else (part[:-1], part[-1:] / WHITE_SIGMA)
    pixels = _pixels(image, np.dtype(np.float32) if blended else tile.header.dtype)
    return pixels, None if sigma is None else _pixels(sigma, np.dtype(np.float32 if blended else np.uint16))


def _pixels(part: Tensor, dtype: np.dtype[Any]) -> Pixels:
    part = part.float().clamp(0, 1).permute(1, 2, 0)
    if dtype == np.float32:
        return part.cpu().numpy()
    levels = 255 if dtype == np.uint8 else 65535
    return (part * levels).round().to(torch.int32 if levels > 255 else torch.uint8).cpu().numpy().astype(dtype)
