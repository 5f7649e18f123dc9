"""Signals during training: the first one saves and stops at the end of a step, the second one ends at once."""

from __future__ import annotations

import os
import signal
import threading
from types import FrameType
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer


class Stopped(BaseException):
    """A signal has stopped a run.

    Attributes:
        number: The signal's.
        step: The optimizer step that `last.ckpt` holds; None if the signal came before or after training.
        exit_code: What the program should return: 128 + the signal's number, as shells expect.
    """

    def __init__(self, number: int, step: int | None) -> None:
        where = "outside of training" if step is None else f"at step {step}; --ckpt_path last goes on"
        super().__init__(f"stopped by {signal.Signals(number).name} {where}")
        self.number, self.step, self.exit_code = number, step, 128 + number


class Interruption(Callback):
    """Listens to SIGTERM and Ctrl-C, and to SIGUSR1 in a SLURM job, while it is entered as a context manager.

    `LastCheckpoint` asks it after every step. A signal before or after training raises `Stopped` where it comes.
    Python handles signals in the main thread only; in other threads this does nothing.

    Attributes:
        began: Whether training began; False also if there was nothing left to train.
    """

    began = False

    def __init__(self) -> None:
        self._received, self._training, self._process = 0, False, os.getpid()
        self._before: dict[int, Any] = {}
        self._trainer: Trainer | None = None

    def __enter__(self) -> Interruption:
        if threading.current_thread() is threading.main_thread():
            numbers = [signal.SIGTERM, signal.SIGINT]
            if "SLURM_JOB_ID" in os.environ:  # SLURM's warning before it ends a job
                numbers.append(signal.SIGUSR1)
            self._before = {number: signal.getsignal(number) for number in numbers}
            self._listen()
        return self

    def __exit__(self, *error: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler or signal.SIG_DFL)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Installs the handlers again: Lightning's own save within a step, and hang if there are several processes."""
        self._listen()
        self.began = self._training = True
        self._trainer = trainer

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Notes that nothing is left to be saved."""
        self._training = False

    def received(self, trainer: Trainer) -> int:
        """Returns the number of a signal that any process has received, or 0; every process must call it."""
        if trainer.world_size == 1:
            return self._received
        number = torch.tensor(self._received, device=trainer.strategy.root_device)
        return int(trainer.strategy.reduce(number, reduce_op="max"))

    def _listen(self) -> None:
        for number in self._before:
            signal.signal(number, self._signalled)

    def _signalled(self, number: int, frame: FrameType | None) -> None:
        if os.getpid() != self._process:  # a forked worker, which has inherited the handler
            if number == signal.SIGTERM:
                _end(number)
            return
        if self._received:
            launcher = None if self._trainer is None else self._trainer.strategy.launcher
            if launcher is not None:
                launcher.kill(number)
            _end(number)
        self._received = number
        if not self._training:
            raise Stopped(number, None)


def _end(number: int) -> None:
    """Ends this process as the signal would without a handler."""
    signal.signal(number, signal.SIG_DFL)
    os.kill(os.getpid(), number)
