"""What a run says at its start: its size, its memory, its duration."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from lightning.pytorch import Trainer

from img2img.callbacks import opening
from img2img.data import CorruptedPairs
from img2img.networks import RestorationUNet
from img2img.tasks import Restoration


def test_batches_that_do_not_fit_are_warned_of_before_training(tmp_path, monkeypatch, recwarn):
    trainer = Trainer(accelerator="cpu", logger=False)
    task = Restoration(RestorationUNet(channels=[8, 8], blocks=1))
    trainer.datamodule = CorruptedPairs(crop_size=1000, batch_size=4)
    monkeypatch.setattr(opening, "free_memory", lambda device: 10**15)
    opening.Opening(tmp_path).on_fit_start(trainer, task)
    assert not recwarn.list
    monkeypatch.setattr(opening, "free_memory", lambda device: 10**8)
    with pytest.warns(UserWarning, match=r"4 images of 1000×1000 takes about .* but 0\.1 GB are free"):
        opening.Opening(tmp_path).on_fit_start(trainer, task)


def test_the_duration_is_told_once_and_validation_is_left_out(tmp_path, monkeypatch):
    clock, said = SimpleNamespace(now=0.0), []
    monkeypatch.setattr(opening.time, "monotonic", lambda: clock.now)
    trainer = SimpleNamespace(global_step=0, estimated_stepping_batches=100, callbacks=[])
    module = SimpleNamespace(print=said.append)
    first = opening.Opening(tmp_path)
    for step in range(1, 31):
        trainer.global_step, clock.now = step, clock.now + 2
        first.on_train_batch_end(trainer, module, None, None, 0)
        if step == 5:
            first.on_validation_start(trainer, module)
            clock.now += 500
            first.on_validation_end(trainer, module)
    assert said == ["about 3 min to go, without validation"]  # 89 steps of 2 s


@pytest.mark.parametrize(("seconds", "said"), [(40, "40 s"), (480, "8 min"), (9000, "2.5 h")])
def test_durations_have_one_unit(seconds, said):
    assert opening.in_words(seconds) == said
