"""Checkpoints appear whole, replace the one before in one step, and never go missing."""

from __future__ import annotations

import errno
import os
import subprocess
from pathlib import Path

import pytest
import torch

from img2img.checkpoint_io import SafeCheckpointIO, is_full
from img2img.trainer import Trainer
from img2img.training.runs import is_whole

LAST = Path("run/last.ckpt")
PREVIOUS = Path("run/last.previous.ckpt")


def save(step: int, size: int = 1000) -> None:
    SafeCheckpointIO().save_checkpoint({"step": step, "weights": torch.randn(size)}, str(LAST))


def step(path: Path) -> int:
    return torch.load(path, weights_only=True)["step"]


def names() -> list[str]:
    return sorted(path.name for path in Path("run").iterdir())


def test_it_is_the_trainers_own():
    trainer = Trainer(accelerator="cpu", logger=False, enable_checkpointing=False)
    assert isinstance(trainer.strategy.checkpoint_io, SafeCheckpointIO)


@pytest.mark.parametrize("links", [True, False])
def test_the_latest_keeps_its_predecessor(links, monkeypatch):
    def refuse(*names):
        raise OSError(errno.EPERM, "no links here")

    if not links:
        monkeypatch.setattr(os, "link", refuse)
    for number in range(3):
        save(number)
    assert (step(LAST), step(PREVIOUS), names()) == (2, 1, ["last.ckpt", "last.previous.ckpt"])
    assert is_whole(LAST)


def test_it_is_never_missing(monkeypatch):
    replace = os.replace

    def watch(source, target):
        assert LAST.exists()
        replace(source, target)
        assert LAST.exists()

    save(0)
    monkeypatch.setattr(os, "replace", watch)
    save(1)
    save(2)
    assert step(PREVIOUS) == 1


@pytest.mark.parametrize("fails", ["fsync", "replace", "link"])
def test_what_fails_on_the_way_changes_nothing(fails, monkeypatch):
    def full(*arguments):
        raise OSError(errno.ENOSPC, "No space left on device")

    save(0)
    with monkeypatch.context() as patch:
        patch.setattr(os, fails, full)
        with pytest.raises(OSError, match="No space"):
            save(1)
    assert (step(LAST), set(names()) <= {"last.ckpt", "last.previous.ckpt"}) == (0, True)


def test_a_full_disk_keeps_the_checkpoint_before():
    Path("run").mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=1M", "tmpfs", "run"], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip("this user may not mount a small disk")
    try:
        save(0, 100_000)
        with pytest.raises(OSError, match="No space") as failure:
            save(1, 200_000)
        assert is_full(failure.value)
        assert (step(LAST), names(), is_whole(LAST)) == (0, ["last.ckpt"], True)
    finally:
        subprocess.run(["umount", "run"], check=True)
