"""Runs whose end is not known when they begin: several folders, other optimizers, a decay that is told to come."""

import shutil
from pathlib import Path

import pytest
import torch

from tests.commands.test_train import same

ADAMW = "--model.optimizer=null"  # the default of tasks; that of denoise.yaml is Muon
FOUR_STEPS = ("--trainer.max_epochs=1", "--data.samples_per_epoch=8", "--last.every_n_steps=2")


def last(run: str) -> dict:
    return torch.load(f"{run}/last.ckpt", weights_only=True)


def copies(monkeypatch) -> None:
    """Keeps a copy of every `last.ckpt`, as a run leaves it that is killed after that step."""
    from img2img.callbacks import LastCheckpoint

    save = LastCheckpoint._save_none_monitor_checkpoint

    def keep(self, trainer, candidates):
        save(self, trainer, candidates)
        shutil.copy(self.best_model_path, f"step{trainer.global_step}.ckpt")

    monkeypatch.setattr(LastCheckpoint, "_save_none_monitor_checkpoint", keep)


@pytest.mark.parametrize("precision", ["auto", "64-true"])
def test_muon_learns_and_resumes_bit_identically(precision, program, monkeypatch):
    flags = ("--trainer.max_steps=6", "--trainer.val_check_interval=4", "--average.horizon=0.2")
    flags = (*flags, f"--trainer.precision={precision}")
    with monkeypatch.context() as patch:
        copies(patch)
        program("fit", *flags, "--last.every_n_steps=2")
    program("fit", *flags, "--ckpt_path=step2.ckpt")
    assert same("runs/denoise/0/last.ckpt", "runs/denoise/1/last.ckpt")
    program("fit", ADAMW, *flags)
    assert not same("runs/denoise/0/last.ckpt", "runs/denoise/2/last.ckpt")


def test_another_optimizer_cannot_take_over(program, capsys):
    program("fit", "--trainer.max_steps=2")
    with pytest.raises(SystemExit):
        program("fit", ADAMW, "--trainer.max_steps=4", "--ckpt_path=last")
    assert "was trained with MuonAdamW, not AdamW" in capsys.readouterr().err


def test_any_optimizer_of_torch_may_stand_in_the_config(program):
    program("fit", "--model.optimizer=torch.optim.SGD", "--model.optimizer.lr=0.1", "--trainer.max_steps=2")
    groups = last("runs/denoise/0")["optimizer_states"][0]["param_groups"]
    assert [group["initial_lr"] for group in groups] == [0.1]


def test_an_open_run_is_ended_by_a_decay_which_survives_kills(program, monkeypatch):
    program("fit", *FOUR_STEPS, config="denoise_long.yaml")
    run = "runs/denoise_long/0"
    rates = [group["lr"] / group["initial_lr"] for group in last(run)["optimizer_states"][0]["param_groups"]]
    assert rates == pytest.approx([5 / 51] * 2)  # still in the warm-up
    decay = ("--model.decay_steps=5", "--model.warmup_steps=0", "--last.every_n_steps=2", "--ckpt_path=last")
    shutil.copytree(run, "runs/denoise_long/1")
    copies(monkeypatch)
    program("fit", *decay, config="denoise_long.yaml")  # goes on in run 1, the newest
    ended = last("runs/denoise_long/1")
    assert ended["global_step"] == 9
    rates = [group["lr"] / group["initial_lr"] for group in ended["optimizer_states"][0]["param_groups"]]
    assert rates == pytest.approx([1e-3] * 2)
    shutil.copytree(run, "runs/denoise_long/2")
    shutil.copy("step6.ckpt", "runs/denoise_long/2/last.ckpt")
    program("fit", *decay, config="denoise_long.yaml")
    assert last("runs/denoise_long/2")["global_step"] == 9
    assert same("runs/denoise_long/1/last.ckpt", "runs/denoise_long/2/last.ckpt")


def test_the_average_begins_anew_with_the_decay(program):
    flags = ("--average.horizon=0.5", "--trainer.max_steps=6")
    program("fit", *flags, "--model.decay_steps=2")
    program("fit", *flags, "--model.decay_steps=0")
    counts = [last(f"runs/denoise/{n}")["averaging_state"]["n_averaged"] for n in (0, 1)]
    assert [int(count) for count in counts] == [2, 6]


def test_a_decay_at_the_end_of_a_run_of_known_length(program):
    program("fit", "--model.decay_steps=2", "--model.warmup_steps=0", "--trainer.max_steps=4")
    group = last("runs/denoise/0")["optimizer_states"][0]["param_groups"][0]
    assert group["lr"] == pytest.approx(1e-3 * group["initial_lr"])


def test_several_roots_are_trained_on_and_validated_with(program, photos, tmp_path):
    other = tmp_path / "other"
    shutil.copytree(photos, other)
    program("fit", f"--data.root=[{photos}, {other}]", "--data.weights=[1, 3]", "--trainer.max_steps=2")
    assert Path("runs/denoise/0/last.ckpt").exists()


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--data.root=[absent, starter]"], "--data.root absent does not exist"),
        (["--data.root=[]"], "root is an empty list"),
        (["--data.root=[starter, starter]"], "each image may have only one root"),
        (["--model.decay_steps=5", "--trainer.max_steps=-1"], "in a run without an end"),
        (["--data.weights=[1, 2]"], "1 number(s) above 0, one for each root"),
        (["--model.decay_steps=-1"], "decay_steps must be at least 0"),
        (["--average.horizon=2"], "must be a fraction between 0 and 1"),
        (["--model.optimizer.momentum=2"], "momentum must be in [0, 1), not 2"),
        (["--model.optimizer=Muoon"], "there is no class Muoon; did you mean Muon"),
    ],
)
def test_wrong_settings_are_one_clear_line(program, capsys, flags, message):
    with pytest.raises(SystemExit):
        program("fit", "--trainer.max_steps=1", *flags)
    error = capsys.readouterr().err.strip().splitlines()
    assert message in error[-1]
