"""Signals during a run: SIGTERM ends it like Ctrl-C."""

from __future__ import annotations

import signal
import threading
from types import FrameType
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer


class Interruptible(Callback):
    """Makes SIGTERM act like Ctrl-C; as a context manager it restores the handlers, which Lightning changes.

    Python handles signals in the main thread only; in other threads this does nothing.
    """

    def __enter__(self) -> Interruptible:
        self._in_main_thread = threading.current_thread() is threading.main_thread()
        self._before: dict[int, Any] = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
        self._listen()
        return self

    def __exit__(self, *error: object) -> None:
        if self._in_main_thread:
            for number, handler in self._before.items():
                signal.signal(number, handler or signal.SIG_DFL)

    def on_predict_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Installs the handler again, because Lightning has installed its own."""
        self._listen()

    def _listen(self) -> None:
        if self._in_main_thread:
            signal.signal(signal.SIGTERM, _interrupt)


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt
