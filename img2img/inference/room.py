"""Keeps files apart whose decoders and encoders would not fit into memory together."""

from __future__ import annotations

import threading
from collections.abc import Iterable

from img2img.errors import UserError
from img2img.inference.jobs import Job
from img2img.tiling.planner import Planner


class Room:
    """The memory of the files between their opening and their end.

    The reader enters a file, the writer leaves it; both are threads of one process.

    Args:
        planner: Knows what files take.
        jobs: All files. The planner lets each take what it needs alone; beside it there is room for another one, so
            that reading and writing overlap, if the planner's limit allows.
    """

    def __init__(self, planner: Planner, jobs: Iterable[Job]) -> None:
        self._planner = planner
        needs = [self._needs(job) for job in jobs]
        alone = max([0.0, *(held + rest for held, rest in needs)])
        second = sorted([0.0, 0.0, *(held for held, _ in needs)])[-2]
        self.limit = max(planner.memory, alone, min(planner.limit, alone + second))
        self.at_most = min(self.limit, sum(held for held, _ in needs) + max([0.0, *(rest for _, rest in needs)]))
        self._inside: dict[str, tuple[float, float]] = {}
        self._changed, self._closed = threading.Condition(), False

    def _needs(self, job: Job) -> tuple[float, float]:
        """Returns what a file's decoder and encoder hold, and what everything else takes."""
        if job.header is None or job.problem:
            return 0.0, 0.0
        try:
            everything = self._planner.bytes_of(job.header, job.destination.suffix)
        except UserError:  # it will not be decoded
            return 0.0, 0.0
        held = self._planner.held(job.header, job.destination.suffix)
        return held, everything - held

    def fits(self, jobs: Iterable[Job]) -> bool:
        """Returns whether there is room for more files."""
        with self._changed:
            return self._closed or not self._inside or self._taken_with(jobs) <= self.limit

    def enter(self, jobs: Iterable[Job]) -> None:
        """Waits until there is room for files that are read together, and takes it."""
        jobs = list(jobs)
        while not self.fits(jobs):
            with self._changed:
                self._changed.wait(0.2)
        with self._changed:
            self._inside |= {job.name: self._needs(job) for job in jobs}

    def _taken_with(self, jobs: Iterable[Job]) -> float:
        needs = [*self._inside.values(), *map(self._needs, jobs)]
        return sum(held for held, _ in needs) + max((rest for _, rest in needs), default=0.0)

    def leave(self, job: Job) -> None:
        """Gives a file's memory back."""
        with self._changed:
            self._inside.pop(job.name, None)
            self._changed.notify_all()

    def close(self) -> None:
        """Lets everybody in, because nothing more is written."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
