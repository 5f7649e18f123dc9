"""What a process that prepares samples does first."""

from __future__ import annotations

import os
import signal
from types import FrameType

from lightning.fabric.utilities.seed import pl_worker_init_function


def begin(number: int) -> None:
    """Seeds a worker as Lightning does, and lets it outlive a signal to the whole run, which still needs its samples.

    Ctrl-C, `scancel` and service managers signal all processes; the main one stops after its step and ends the workers.
    """
    if int(os.environ.get("PL_SEED_WORKERS", "0")):
        pl_worker_init_function(number)
    for name in ("SIGINT", "SIGUSR1"):
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), signal.SIG_IGN)
    signal.signal(signal.SIGTERM, _outlive_one)


def _outlive_one(number: int, frame: FrameType | None) -> None:
    signal.signal(number, signal.SIG_DFL)  # torch and Python end a worker that hangs by more of them
