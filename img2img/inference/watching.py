"""Restores what arrives in folders, round after round, until it is told to end."""

from __future__ import annotations

import time
import warnings
from collections import Counter
from collections.abc import Callable, Collection, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from tqdm import tqdm

from img2img.inference.interruption import Interruptible
from img2img.inference.jobs import named_images
from img2img.inference.journal import Record
from img2img.inference.on_disk import state_of
from img2img.inference.plan import Plan
from img2img.inference.report import RestoreResult, write_report
from img2img.inference.run import RestoreInterrupted, RestoreStopped, all_records, execute

if TYPE_CHECKING:
    from img2img.trainer import Trainer

POLL = 1.0
"""Seconds between two looks at the folders. Looking works everywhere; notifications do not come from network drives."""


class Planning(Protocol):
    """Plans a round for the images that are finished; see `plan_run`."""

    def __call__(self, *, only: Collection[Path]) -> Plan:
        """Returns the plan."""


class Arrivals:
    """Finds the images of folders that are finished: size and time are those of the look before.

    Attributes:
        others: Number of files in other formats, by suffix.
    """

    def __init__(self, sources: Sequence[Path]) -> None:
        self.sources, self.others = sources, Counter[str]()
        self._seen: dict[Path, tuple[int, int]] = {}
        self._given: dict[Path, tuple[int, int]] = {}
        self._gone = False

    def __call__(self) -> list[Path]:
        """Looks, and returns the finished images that are new, or have changed since they were returned."""
        others: Counter[str] = Counter()
        try:
            paths = [path for path, _ in named_images(self.sources, others, may_be_none=True)]
        except OSError as error:  # a network drive that is away comes back
            if not self._gone:
                warnings.warn(f"{error}; waiting for it", stacklevel=2)
            self._gone = True
            return []
        self._gone, self.others = False, others
        states = {path: state for path in paths if (state := state_of(path)) is not None}
        settled = {path: state for path, state in states.items() if self._seen.get(path) == state}
        new = [path for path, state in settled.items() if self._given.get(path) != state]
        self._seen = states
        self._given |= {path: settled[path] for path in new}
        return new

    @property
    def waiting(self) -> int:
        """Number of images that had not settled in the last look, and were not returned."""
        return sum(self._given.get(path) != state for path, state in self._seen.items())


class Watch:
    """Restores arrivals, and keeps what the report will say.

    Args:
        sources: The folders.
        plan: Plans a round.
        new_trainer: Makes the Trainer of a round.
        progress: Whether to show how many files were restored.
    """

    def __init__(
        self, sources: Sequence[Path], plan: Planning, new_trainer: Callable[[], Trainer], progress: bool
    ) -> None:
        self.arrivals, self.plan_of, self.new_trainer = Arrivals(sources), plan, new_trainer
        self.plan = plan(only=())  # says at once what is wrong
        earlier = self.plan.journal.records()[0] if self.plan.journal is not None and self.plan.continues else {}
        self.earlier, self.records = earlier, dict(earlier)
        self.seconds = self.megapixels = 0.0
        self.working = False
        self.bar = tqdm(desc="Watching", unit=" file", disable=not progress, bar_format="{desc}: {n} done [{elapsed}]")

    def go_on(self) -> str:
        """Restores what arrives until nothing more can be written; returns why."""
        while True:
            ready = self.arrivals()
            if not ready:
                time.sleep(POLL)
                continue
            self.working = True
            stopped = self._round(ready)
            if stopped:
                return stopped
            self.working = False

    def _round(self, ready: Collection[Path]) -> str:
        self.plan = self.plan_of(only=frozenset(ready))
        try:
            done = execute(self.plan, self.new_trainer())
            self.records |= {record.name: record for record in all_records(self.plan, done)}
        finally:
            if self.plan.journal is not None:
                self.plan.journal.release()
        self.seconds, self.megapixels = self.seconds + done.seconds, self.megapixels + done.megapixels
        self.bar.update(len(done.records))
        if done.interrupted and not done.stopped:
            raise KeyboardInterrupt
        return done.stopped

    def result(self) -> RestoreResult:
        """Writes the report, and returns the result."""
        self.bar.close()
        if self.working and self.plan.journal is not None:
            self.records |= self.plan.journal.records()[0]
        if not self.records:
            return RestoreResult(self.plan.output, (), others=self.arrivals.others, waiting=self.arrivals.waiting)
        kept: dict[str, Record] = {
            name: record for name, record in self.earlier.items() if self.records[name] == record
        }
        whole = replace(self.plan, done=kept, others=self.arrivals.others)
        records = [self.records[name] for name in sorted(self.records)]
        result = write_report(whole, records, self.seconds, self.megapixels)
        if self.plan.journal is not None and not self.working:
            self.plan.journal.note_ended()
        return replace(result, waiting=self.arrivals.waiting)


def watch_folders(
    sources: Sequence[Path], plan: Planning, new_trainer: Callable[[], Trainer], progress: bool = False
) -> RestoreResult:
    """Restores the images of folders and what arrives there, each once, until Ctrl-C or SIGTERM.

    An image that changes later, or comes again under its name, is restored again. What a killed run has done is kept.

    Args:
        sources: The folders.
        plan: Plans a round.
        new_trainer: Makes the Trainer of a round, on one device.
        progress: Whether to show how many files were restored.

    Returns:
        The records of all files, also of those that earlier starts restored.

    Raises:
        RestoreInterrupted: If it was interrupted in the middle of a file.
        RestoreStopped: If the disk is full, or nothing more can be written.
        UserError: If a round cannot be planned.
    """
    watch, stopped = Watch(sources, plan, new_trainer, progress), ""
    with Interruptible():
        try:
            stopped = watch.go_on()
        except KeyboardInterrupt:  # the way to end it
            stopped = ""
        except Exception:
            watch.result()
            raise
    result = watch.result()
    if stopped:
        raise RestoreStopped(stopped, result)
    if watch.working:
        raise RestoreInterrupted(result)
    return result
