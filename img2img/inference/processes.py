"""Signs of life of the processes of a distributed run, on the disk that they share.

The processes of a run work apart, each on its own files. At the end each one waits for the others, but not for one
that was lost; collective operations of torch would wait for it until their timeout, and then fail.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Collection
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

from img2img.imaging.parts import appearing

PERIOD = 2.0
"""Seconds between two signs."""
PATIENCE = 60.0
"""Seconds without a sign after which a process counts as lost."""
PATIENCE_NETWORK = 240.0
"""The same on several machines, whose file systems may show each other's changes a minute later."""


@dataclass(frozen=True)
class Sign:
    """What a process says of itself.

    Attributes:
        count: Grows with each sign.
        state: Whether it works, has done its part, or has ended before that.
        megapixels: Megapixels that went through its network.
        stopped: Why it had to end; empty if it did not.
    """

    count: int = 0
    state: Literal["works", "done", "ended"] = "works"
    megapixels: float = 0.0
    stopped: str = ""


class Processes:
    """Shows the others that this process is alive, and watches them, in a thread.

    Args:
        folder: A folder that all processes share.
        run: Number of this start of the run, the same in all processes, so that none takes older signs for new ones.
        rank: Number of this process.
        world_size: How many there are.
        patience: Seconds without a sign after which a process counts as lost.
        gone: Returns the numbers of processes that are known to have ended.
        on_loss_of_first: What to do if the first process is lost, which writes the report; called in the thread.
    """

    def __init__(
        self,
        folder: Path,
        run: int,
        rank: int,
        world_size: int,
        patience: float,
        gone: Callable[[], Collection[int]],
        on_loss_of_first: Callable[[], None],
    ) -> None:
        self.folder, self.run, self.rank, self.patience = folder, run, rank, patience
        self.gone, self.on_loss_of_first = gone, on_loss_of_first
        self._own = Sign()
        now = time.monotonic()
        self._others = {number: (Sign(), now) for number in range(world_size) if number != rank}
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._work, name="signs-of-life", daemon=True)
        self._thread.start()

    def _file(self, rank: int) -> Path:
        return self.folder / f"process-{self.run}-{rank}.json"

    def _work(self) -> None:
        while True:
            self._show()
            self._look()
            if self.rank > 0 and 0 in self.lost():
                self.on_loss_of_first()
            if self._ending.wait(PERIOD):
                return

    def _show(self) -> None:
        self._own = Sign(self._own.count + 1)
        self._write()

    def _write(self) -> None:
        with suppress(OSError), appearing(self._file(self.rank)) as part:  # a full disk is told of elsewhere
            part.write_text(json.dumps(asdict(self._own)), encoding="ascii")

    def _look(self) -> None:
        for number, (known, _) in self._others.items():
            try:
                sign = Sign(**json.loads(self._file(number).read_text(encoding="ascii")))
            except (OSError, ValueError, TypeError):  # not there yet
                continue
            if sign != known:
                self._others[number] = sign, time.monotonic()

    def lost(self) -> list[int]:
        """Returns the numbers of the processes that ended before their part was done, or show no sign any more."""
        now, gone = time.monotonic(), self.gone()
        return [
            number
            for number, (sign, seen) in self._others.items()
            if sign.state == "ended" or (sign.state == "works" and (number in gone or now - seen > self.patience))
        ]

    def end(self, done: bool, megapixels: float, stopped: str) -> None:
        """Shows that this process has ended, and whether it has done its part."""
        self._ending.set()
        self._thread.join()
        self._own = Sign(self._own.count + 1, "done" if done else "ended", megapixels, stopped)
        self._write()

    def wait(self) -> list[Sign]:
        """Waits until each of the others has ended or is lost; returns their last signs."""
        while True:
            lost = self.lost()  # before looking: one that has ended cannot do more
            self._look()
            if all(sign.state != "works" or number in lost for number, (sign, _) in self._others.items()):
                return [sign for sign, _ in self._others.values()]
            time.sleep(0.2)
