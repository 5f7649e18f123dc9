"""Training runs that are disturbed at a given step or validation, and compared with one that is not."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from img2img.callbacks import FinalValidation, LastCheckpoint
from tests.commands.test_train import same

FLAGS = ("--trainer.max_steps=8", "--trainer.val_check_interval=2", "--last.every_n_steps=2")
RUN = Path("runs/denoise/1")
"""The disturbed run; the undisturbed one is number 0."""


class Killed(BaseException):
    """Ends a run at once, as far as that can be done within a process."""


def at_step(monkeypatch, step: int, act: Callable[[], None]) -> None:
    """Does something in the middle of the end of a step."""
    hook = FinalValidation.on_train_batch_end

    def act_too(self, trainer, *arguments):
        hook(self, trainer, *arguments)
        if trainer.global_step == step:
            act()

    monkeypatch.setattr(FinalValidation, "on_train_batch_end", act_too)


def in_validation(monkeypatch, step: int, act: Callable[[], None]) -> None:
    """Does something before the last batch of the validation after a step."""
    hook = LastCheckpoint.on_validation_batch_end

    def act_too(self, trainer, module, outputs, batch, number, *others):
        if trainer.global_step == step and number + 1 == trainer.num_val_batches[0]:
            act()
        hook(self, trainer, module, outputs, batch, number, *others)

    monkeypatch.setattr(LastCheckpoint, "on_validation_batch_end", act_too)


def kill() -> None:
    raise Killed


def scores(run: str | Path) -> dict[int, float]:
    events = EventAccumulator(str(run))
    events.Reload()
    return {value.step + 1: value.value for value in events.Scalars("val/psnr")}


def as_if_undisturbed(run: Path = RUN) -> bool:
    """Whether a run has made the same validations, checkpoints and grid as the undisturbed one."""
    whole = Path("runs/denoise/0")
    assert scores(run) == scores(whole)
    assert (run / "grid.png").read_bytes() == (whole / "grid.png").read_bytes()
    steps = [[torch.load(folder / f"{name}.ckpt", weights_only=True)["global_step"] for folder in (run, whole)]
             for name in ("best", "last")]  # fmt: skip
    assert all(ours == theirs for ours, theirs in steps), steps
    return all(same(run / f"{name}.ckpt", whole / f"{name}.ckpt") for name in ("best", "last"))


def killed(program, monkeypatch, where, step: int, *flags: str) -> None:
    with monkeypatch.context() as patch:
        where(patch, step, kill)
        with pytest.raises(Killed):
            program("fit", *FLAGS, *flags)
