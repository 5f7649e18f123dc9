"""One picture at a time through the network, the others wait in a bounded queue; the same engine as `restore`."""

from __future__ import annotations

import logging
import shutil
import threading
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lightning.pytorch import Callback

from img2img.errors import UserError
from img2img.imaging.formats import loss
from img2img.imaging.reading import read_header
from img2img.imaging.writing import create_rows
from img2img.inference.jobs import name_outputs
from img2img.inference.loader import Batches
from img2img.inference.options import Options
from img2img.inference.plan import plan_run
from img2img.inference.run import run_plan
from img2img.serve.limits import Refused
from img2img.serve.pictures import Picture
from img2img.serve.shelf import Model
from img2img.trainer import Precision, Trainer, best_precision

if TYPE_CHECKING:
    from img2img.inference.tiles import Tiles

_LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class Restored:
    """What the network made of a picture.

    Attributes:
        image: Its result as a TIFF, lossless and in the depth of the picture, from which downloads are made.
        map: Its uncertainty map, if one was wanted.
        suffix: Suffix of downloads.
        seconds: How long it took.
        losses: What the format of downloads cannot hold, in words.
    """

    image: Path
    map: Path | None
    suffix: str
    seconds: float
    losses: list[str]

    @property
    def version(self) -> str:
        """Tells the results of one picture apart."""
        return self.image.parent.parent.name


@dataclass(eq=False)
class Work:
    """A picture that waits for the network, or went through it.

    Attributes:
        picture: The picture.
        model: The model.
        uncertainty: Whether to make a map of σ, too.
        self_ensemble: Whether to average over eight symmetries.
        result: What was made, in time.
        share: How much is done, 0 to 1.
    """

    picture: Picture
    model: Model
    uncertainty: bool = False
    self_ensemble: bool = False
    result: Future[Restored] = field(default_factory=Future)
    share: float = 0.0
    cancelled: threading.Event = field(default_factory=threading.Event)

    def cancel(self) -> None:
        """Gives it up: at once if it waits, else after the next tile."""
        self.cancelled.set()
        self.result.cancel()

    def describe(self) -> dict[str, Any]:
        """Returns what the page needs to know."""
        about: dict[str, Any] = {"model": self.model.name, "share": round(self.share, 3)}
        if not self.result.done():
            return about | {"state": "running" if self.result.running() else "waiting"}
        if self.result.cancelled():
            return about | {"state": "stored"}
        error = self.result.exception()
        if error is not None:
            return about | {"state": "failed", "reason": str(error)}
        restored = self.result.result()
        about |= {
            "seconds": round(restored.seconds, 2),
            "losses": restored.losses,
            "version": restored.version,
        }
        return about | {"state": "restored", "uncertainty": restored.map is not None, "suffix": restored.suffix}


class Queue:
    """The works that wait.

    Args:
        most: How many may wait.
    """

    def __init__(self, most: int) -> None:
        self.most = most
        self._waiting: deque[Work] = deque()
        self._changed, self._closed = threading.Condition(), False

    def check_room(self) -> None:
        """Checks that another work may wait.

        Raises:
            Refused: With status 503, if too many wait.
        """
        with self._changed:
            self._waiting = deque(work for work in self._waiting if not work.cancelled.is_set())
            if len(self._waiting) >= self.most:
                full = f"{self.most} pictures are waiting, the limit of this server; try again in a while"
                raise Refused(503, full, {"retry-after": "2"})

    def put(self, work: Work) -> None:
        """Adds a work at the end; raises as `check_room` does."""
        self.check_room()
        with self._changed:
            self._waiting.append(work)
            self._changed.notify()

    def get(self) -> Work | None:
        """Waits for the next work; returns None if the queue was closed."""
        with self._changed:
            while not self._waiting and not self._closed:
                self._changed.wait(1.0)  # not for ever, so that Ctrl-C is seen on every system
            return None if self._closed else self._waiting.popleft()

    def close(self) -> None:
        """Ends the waiting: nothing more is given out."""
        with self._changed:
            self._closed = True
            for work in self._waiting:
                work.cancel()
            self._changed.notify_all()


@dataclass(frozen=True)
class Engine:
    """How the network runs; see `img2img.restore` for each option."""

    accelerator: str = "auto"
    precision: Precision = "auto"
    memory: str | None = None

    def restore(self, work: Work) -> Restored:
        """Restores a picture with the functions of `img2img restore`.

        Raises:
            UserError: If that is not possible; one line says why.
        """
        began, picture = time.monotonic(), work.picture
        folder = picture.folder / str(time.time_ns())
        maps = folder / "maps" if work.uncertainty and work.model.task.estimates_sigma else None
        trainer = Trainer(
            accelerator=self.accelerator,
            devices=1,
            precision=self.precision,
            logger=False,
            enable_checkpointing=False,
            enable_model_summary=False,
            enable_progress_bar=False,
            callbacks=[_Progress(work)],
        )
        plan = plan_run(
            work.model.task,
            [picture.source],
            folder / "image" / "restored.tif",  # loses nothing of any format
            Options(self_ensemble=work.self_ensemble, memory=self.memory, uncertainty=maps),
            mask=picture.mask if work.model.task.needs_mask else None,
            name=work.model.name,
            precision=best_precision(self.accelerator) if self.precision == "auto" else str(self.precision),
            weights=work.model.file,
            device=trainer.strategy.root_device,
        )
        suffix = Path(name_outputs([picture.name], "keep")[0]).suffix
        job = plan.jobs[0]
        if job.header is not None:
            plan.planner.of_header(job.header, suffix)  # refuses what its encoder could not hold
        failures = run_plan(plan, trainer).failures
        if failures:
            raise UserError(failures[0].reason)
        # The TIFF holds whatever there is; the format of downloads may not.
        header = replace(read_header(job.destination), metadata=picture.header.metadata)
        create_rows(folder / f"probe{suffix}", header).abort()
        for earlier in picture.folder.glob("*/image"):
            if earlier != job.destination.parent:
                shutil.rmtree(earlier.parent, ignore_errors=True)
        return Restored(job.destination, job.map, suffix, time.monotonic() - began, loss(header, suffix))


class Given(Exception):
    """A work was given up while it ran."""


class _Progress(Callback):
    """Notes how much of a picture is done, and stops if it was given up."""

    def __init__(self, work: Work) -> None:
        self.work, self.done = work, 0.0

    def on_predict_batch_start(self, trainer: Any, pl_module: Any, *args: Any) -> None:
        """Stops a work that was given up.

        Raises:
            Given: If it was.
        """
        if self.work.cancelled.is_set():
            raise Given

    def on_predict_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, *args: Any) -> None:
        """Adds the tiles of a batch."""
        tiles: Tiles = batch["tiles"]
        self.done += sum(tile.megapixels for tile in tiles.tiles)
        loader = trainer.predict_dataloaders
        if isinstance(loader, Batches) and loader.megapixels:
            self.work.share = min(1.0, self.done / loader.megapixels)


def work_off(queue: Queue, restore: Callable[[Work], Restored], after: Callable[[Work], None]) -> None:
    """Restores picture after picture until the queue is closed; whatever is wrong with one, the others go on.

    Call it in the main thread, where Lightning handles Ctrl-C.

    Args:
        queue: The works.
        restore: Restores one.
        after: Called after each, before its result is known.
    """
    while (work := queue.get()) is not None:
        if not work.result.set_running_or_notify_cancel():
            continue
        try:
            try:
                restored = restore(work)
            finally:
                after(work)
            work.result.set_result(restored)
        except Given:
            work.result.set_exception(UserError("it was given up"))
        except Exception as error:
            if not isinstance(error, ValueError | OSError):  # a bug, or the device: its line may not say enough
                _LOG.exception("a picture was not restored")
            lines = (str(error).strip() or type(error).__name__).splitlines()
            work.result.set_exception(UserError(work.picture.said(lines[0])))
        except BaseException:
            with suppress(Exception):
                work.result.set_exception(UserError("the server ends"))
            raise
