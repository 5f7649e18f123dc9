"""What surrounds a training: one process in the run's folder, signals, a full disk, SLURM's queue."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from img2img.callbacks.interruption import Interruption, Stopped
from img2img.checkpoint_io import DiskFull, is_full
from img2img.training.lock import alone_in


@contextmanager
def fitting(folder: Path | None, first: bool, interruption: Interruption, goes_on: bool) -> Iterator[None]:
    """Trains alone in a folder, listens to signals, and says plainly when the disk is full.

    Args:
        folder: The run's folder; None for a trial run without files.
        first: Whether this is the run's first process, which holds the lock.
        interruption: What listens.
        goes_on: Whether the same command, given again, goes on in this run: then SLURM's warning requeues the job.

    Raises:
        Stopped: If a signal has stopped the training.
        UserError: If another process trains in the folder.
        DiskFull: If there is no room for a checkpoint, or for anything else that training writes.
    """
    try:
        with ExitStack() as stack:
            if folder is not None and first:
                stack.enter_context(alone_in(folder))
            stack.enter_context(interruption)
            stack.enter_context(_quiet_threads())
            yield
    except Stopped as stop:
        if first and stop.step is not None and stop.number == getattr(signal, "SIGUSR1", None):
            stop.args = (f"{stop}; {requeue() if goes_on else 'not requeued, as --resume auto is not given'}",)
        raise
    except Exception as error:
        if not is_full(error):
            raise
        raise DiskFull(
            f"there is no room left on the disk of {folder}: the run has stopped, and its checkpoints are whole; "
            "make room, then go on with --resume auto"
        ) from error


@contextmanager
def _quiet_threads() -> Iterator[None]:
    """Keeps threads from printing that the disk is full: TensorBoard's passes the error on to the main thread."""
    before = threading.excepthook

    def hook(arguments: threading.ExceptHookArgs) -> None:
        if arguments.exc_value is None or not is_full(arguments.exc_value):
            before(arguments)

    threading.excepthook = hook
    try:
        yield
    finally:
        threading.excepthook = before


def requeue() -> str:
    """Asks SLURM to put this job back into its queue; returns what came of it."""
    array, job = os.environ.get("SLURM_ARRAY_JOB_ID"), os.environ.get("SLURM_JOB_ID", "")
    job = job if array is None else f"{array}_{os.environ.get('SLURM_ARRAY_TASK_ID')}"
    try:
        subprocess.run(["scontrol", "requeue", job], check=True, capture_output=True, text=True, timeout=60)
    except (OSError, subprocess.SubprocessError) as error:
        said = str(getattr(error, "stderr", None) or error).strip()
        return f"job {job} could not be requeued ({said})"
    return f"job {job} is requeued"
