"""Runs that are killed or told to stop, and go on: they end as if they had never stopped."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from img2img.training.lock import alone_in
from img2img.training.runs import is_whole
from tests.commands.interrupting import (
    FLAGS,
    RUN,
    as_if_undisturbed,
    at_step,
    in_validation,
    killed,
    scores,
)
from tests.commands.test_train import same
from tests.conftest import TINY


@pytest.fixture
def undisturbed(program, tmp_path_factory) -> None:
    """Run 0, which no one disturbs; all tests share it."""
    kept = tmp_path_factory.getbasetemp() / "undisturbed"
    if not kept.exists():
        program("fit", *FLAGS)
        shutil.copytree("runs/denoise/0", kept)
    else:
        shutil.copytree(kept, "runs/denoise/0")


@pytest.mark.usefixtures("undisturbed")
def test_killed_again_and_again_it_ends_as_if_undisturbed(program, monkeypatch):
    killed(program, monkeypatch, at_step, 1)
    killed(program, monkeypatch, at_step, 5, "--resume=auto")
    killed(program, monkeypatch, in_validation, 6, "--ckpt_path=last")
    killed(program, monkeypatch, in_validation, 8, "--ckpt_path=last")
    program("fit", *FLAGS, "--ckpt_path=last")
    assert as_if_undisturbed()


@pytest.mark.slow
@pytest.mark.parametrize("workers", ["0", "2"])
@pytest.mark.parametrize("where", [in_validation, at_step])
@pytest.mark.parametrize("step", [2, 4, 6, 8])
def test_killed_anywhere_it_ends_as_if_undisturbed(program, monkeypatch, where, step, workers):
    flags = (f"--data.num_workers={workers}", "--data.samples_per_epoch=8", "--last.every_n_steps=3")
    program("fit", *FLAGS, *flags)
    killed(program, monkeypatch, where, step, *flags)
    program("fit", *FLAGS, *flags, "--resume=auto")
    assert as_if_undisturbed()


@pytest.mark.parametrize(("number", "code", "step"), [(signal.SIGTERM, 143, 5), (signal.SIGINT, 130, 6)])
@pytest.mark.usefixtures("undisturbed")
def test_a_signal_saves_this_step_and_the_run_goes_on(program, monkeypatch, capsys, number, code, step):
    """At step 6 a validation follows, which the run then begins with."""
    with monkeypatch.context() as patch:
        at_step(patch, step, lambda: signal.raise_signal(number))
        with pytest.raises(SystemExit) as stop:
            program("fit", *FLAGS)
    assert stop.value.code == code
    assert f"stopped by {number.name} at step {step}; --ckpt_path last goes on" in capsys.readouterr().err
    assert torch.load(RUN / "last.ckpt", weights_only=True)["global_step"] == step
    program("fit", *FLAGS, "--ckpt_path=last")
    assert as_if_undisturbed()
    assert signal.getsignal(number) in (signal.SIG_DFL, signal.default_int_handler), "the handlers are gone again"


def test_a_signal_in_a_validation_does_not_wait_for_it_if_the_step_is_saved(program, monkeypatch, capsys):
    with monkeypatch.context() as patch:
        in_validation(patch, 4, lambda: signal.raise_signal(signal.SIGTERM))
        with pytest.raises(SystemExit) as stop:
            program("fit", *FLAGS)
    assert stop.value.code == 143
    assert list(scores("runs/denoise/0")) == [2]
    program("fit", *FLAGS, "--ckpt_path=last")
    assert list(scores("runs/denoise/0")) == [2, 4, 6, 8]


def test_accumulated_gradients_are_not_cut_in_two(program, monkeypatch):
    flags = ("--trainer.accumulate_grad_batches=2", "--trainer.max_steps=3")
    program("fit", *flags)
    asked: list[int] = []

    def once() -> None:
        if not asked:
            asked.append(1)
            signal.raise_signal(signal.SIGTERM)

    with monkeypatch.context() as patch:
        at_step(patch, 2, once)
        with pytest.raises(SystemExit):
            program("fit", *flags)
    program("fit", *flags, "--ckpt_path=last")
    assert same("runs/denoise/0/last.ckpt", "runs/denoise/1/last.ckpt")


def test_a_job_script_starts_goes_on_and_sees_that_all_is_done(program, capsys):
    for steps, said in ((2, "Done"), (4, "resumes at step 2"), (4, "Already finished at step 4")):
        program("fit", f"--trainer.max_steps={steps}", "--resume=auto")
        assert said in capsys.readouterr().out
    assert [folder.name for folder in Path("runs/denoise").iterdir()] == ["0"]


@pytest.mark.slow
@pytest.mark.usefixtures("undisturbed")
def test_a_damaged_last_checkpoint_costs_a_few_steps(program):
    shutil.copytree("runs/denoise/0", RUN)
    (RUN / "last.ckpt").write_bytes((RUN / "last.ckpt").read_bytes()[:1000])
    with pytest.warns(UserWarning, match=r"last\.ckpt is damaged"):
        program("fit", *FLAGS, "--ckpt_path=last")
    assert as_if_undisturbed()


def test_a_run_can_go_on_from_its_best_checkpoint(program):
    program("fit", *FLAGS, "--trainer.max_steps=6", "--best.mode=min")
    run = Path("runs/denoise/0")
    shutil.copytree(run, RUN)
    (RUN / "last.ckpt").unlink()
    (RUN / "last.previous.ckpt").unlink()
    assert torch.load(RUN / "best.ckpt", weights_only=True)["global_step"] == 2
    program("fit", *FLAGS, "--trainer.max_steps=6", "--best.mode=min", "--ckpt_path=last")
    assert same(run / "last.ckpt", RUN / "last.ckpt")


def test_a_better_best_is_not_replaced_by_a_worse_one(program):
    """`last.ckpt` may have been saved before the validation that made `best.ckpt`."""
    program("fit", "--trainer.max_steps=1", "--model.warmup_steps=1000000000")
    last = Path("runs/denoise/0/last.ckpt")
    saved = torch.load(last, weights_only=True)
    state = next(value for key, value in saved["callbacks"].items() if key.startswith("BestCheckpoint"))
    state["best_model_score"] = state["kth_value"] = torch.tensor(1.0)
    state["best_k_models"] = {path: torch.tensor(1.0) for path in state["best_k_models"]}
    torch.save(saved, last)
    program("fit", "--trainer.max_steps=3", "--model.lr=1000", "--average.decay=0", "--ckpt_path=last")
    assert torch.load("runs/denoise/0/best.ckpt", weights_only=True)["global_step"] == 1


@pytest.mark.slow
def test_a_best_checkpoint_that_is_gone_is_made_again(program):
    program("fit", "--trainer.max_steps=1")
    Path("runs/denoise/0/best.ckpt").unlink()
    program("fit", "--trainer.max_steps=2", "--ckpt_path=last")
    assert torch.load("runs/denoise/0/best.ckpt", weights_only=True)["global_step"] == 2


@pytest.fixture
def slurm(monkeypatch, tmp_path) -> Path:
    """A job of SLURM with one task, whose `scontrol` writes down what it is asked."""
    names = {"JOB_ID": "77", "JOB_NAME": "train", "NTASKS": "1", "PROCID": "0", "LOCALID": "0", "NODEID": "0"}
    for name, value in names.items():
        monkeypatch.setenv(f"SLURM_{name}", value)
    monkeypatch.setenv("PATH", str(tmp_path / "bin"), prepend=os.pathsep)
    (tmp_path / "bin").mkdir()
    script = tmp_path / "bin" / "scontrol"
    script.write_text(f'#!/bin/sh\necho "$@" >> {tmp_path}/asked\n')
    script.chmod(0o755)
    return tmp_path / "asked"


def test_a_job_that_slurm_takes_back_is_requeued_and_goes_on_in_its_run(program, monkeypatch, capsys, slurm):
    with monkeypatch.context() as patch:
        at_step(patch, 5, lambda: signal.raise_signal(signal.SIGUSR1))
        with pytest.raises(SystemExit) as stop:
            program("fit", *FLAGS, "--resume=auto")
        assert stop.value.code == 128 + signal.SIGUSR1
    assert slurm.read_text() == "requeue 77\n"
    assert "stopped by SIGUSR1 at step 5; --ckpt_path last goes on; job 77 is requeued" in capsys.readouterr().err
    Path("runs/denoise/1").mkdir()  # another job's run, which began meanwhile
    monkeypatch.setenv("SLURM_RESTART_COUNT", "1")
    program("fit", *FLAGS, "--resume=auto")
    assert "resumes at step 5" in capsys.readouterr().out
    assert torch.load("runs/denoise/0/last.ckpt", weights_only=True)["global_step"] == 8
    assert list(Path("runs/denoise/1").iterdir()) == []


def test_a_job_that_would_begin_anew_is_not_requeued(program, monkeypatch, capsys, slurm):
    at_step(monkeypatch, 2, lambda: signal.raise_signal(signal.SIGUSR1))
    with pytest.raises(SystemExit):
        program("fit", *FLAGS)
    assert "not requeued, as --resume auto is not given" in capsys.readouterr().err
    assert not slurm.exists()


def test_a_second_process_is_refused(program, capsys):
    program("fit", "--trainer.max_steps=1")
    with alone_in(Path("runs/denoise/0")):
        for again in ("--ckpt_path=last", "--resume=auto"):
            with pytest.raises(SystemExit) as stop:
                program("fit", "--trainer.max_steps=2", again)
            assert stop.value.code == 2
            assert f"process {os.getpid()} on" in capsys.readouterr().err


def test_resume_is_an_option_of_fit_with_one_word(program, capsys):
    for command, *flags in (("fit", "--resume"), ("fit", "--resume=yes"), ("test", "--resume=auto")):
        with pytest.raises(SystemExit):
            program(command, *flags)
        assert "it is --resume auto, for img2img fit" in capsys.readouterr().err


def test_a_full_disk_ends_the_run_with_one_line_and_whole_checkpoints(program, capsys):
    """Of everything that is written: the last checkpoints do not fit, or TensorBoard's images, or the grid."""
    Path("runs").mkdir()
    small = ["mount", "-t", "tmpfs", "-o", "size=400k", "tmpfs", "runs"]
    if subprocess.run(small, capture_output=True, check=False).returncode:
        pytest.skip("this user may not mount a small disk")
    try:
        with pytest.raises(SystemExit) as stop:
            program("fit", *FLAGS)
        assert stop.value.code == 1
        said = capsys.readouterr().err
        assert "no room left on the disk of runs/denoise/0" in said
        assert len(said.strip().splitlines()) == 1
        run = Path("runs/denoise/0")
        assert all(is_whole(path) for path in run.glob("*.ckpt"))
        assert not list(run.glob(".*.part"))
        subprocess.run(["mount", "-o", "remount,size=50M", "runs"], check=True)
        program("fit", *FLAGS, "--resume=auto")
        assert torch.load(run / "last.ckpt", weights_only=True)["global_step"] == 8
    finally:
        subprocess.run(["umount", "-l", "runs"], check=True)


def start(photos: Path, *flags: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "img2img", "fit", "--config=denoise.yaml", *TINY, f"--data.root={photos}", *flags]
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True
    )


@pytest.mark.slow
@pytest.mark.parametrize(
    ("flags", "send", "code"),
    [
        (["--trainer.strategy=ddp", "--trainer.devices=2"], lambda first: os.kill(first, signal.SIGTERM), 143),
        (["--trainer.strategy=ddp", "--trainer.devices=2"], lambda first: os.kill(child(first), signal.SIGTERM), 143),
        (["--trainer.strategy=ddp", "--trainer.devices=2"], lambda first: os.killpg(first, signal.SIGINT), 130),
        (["--data.num_workers=2"], lambda first: os.killpg(first, signal.SIGTERM), 143),
        (["--data.num_workers=2"], lambda first: os.killpg(first, signal.SIGINT), 130),
    ],
    ids=["first of two", "second of two", "both", "workers", "workers at the keyboard"],
)
def test_several_processes_stop_after_the_same_step(photos, flags, send, code):
    flags = [*flags, "--trainer.max_steps=400", "--trainer.precision=32-true", "--trainer.val_check_interval=150"]
    with start(photos, *flags, "--last.every_n_steps=20") as process:
        while not Path("runs/denoise/0/last.ckpt").exists() and process.poll() is None:
            time.sleep(0.05)
        send(process.pid)
        said, _ = process.communicate(timeout=120)
    assert process.returncode == code, said
    assert said.count("stopped by SIG") == 1
    assert "Traceback" not in said
    assert "ended with code" not in said
    stopped = torch.load("runs/denoise/0/last.ckpt", weights_only=True)["global_step"]
    assert f"at step {stopped};" in said
    for again in ("--ckpt_path=last", "--name=whole"):
        with start(photos, *flags, again) as process:
            said, _ = process.communicate(timeout=240)
        assert process.returncode == 0, said
    assert same("runs/denoise/0/last.ckpt", "runs/whole/0/last.ckpt")


def child(process: int) -> int:
    """The process that Lightning has started for the second rank."""
    children = Path(f"/proc/{process}/task/{process}/children").read_text().split()
    return next(int(pid) for pid in children if b"img2img" in Path(f"/proc/{pid}/cmdline").read_bytes())
