"""Sweeps: what they find, continue, refuse."""

from __future__ import annotations

import csv
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from PIL import Image

from img2img.cli import main
from tests.commands.processes import trial_in_this_process
from tests.conftest import TINY

optuna = pytest.importorskip("optuna")
RATES = "model.lr=log:1e-4..1e-2"
SHORT = ["--trainer.max_steps=4", "--trainer.val_check_interval=2", "--last.every_n_steps=2", "--model.optimizer=Adam"]


def arguments(photos: Path, trials: int, *more: str) -> list[str]:
    given = ["--config", "denoise.yaml", "--set", RATES, "--trials", str(trials), "--output", "found"]
    return ["sweep", *given, *TINY[:-1], f"--data.root={photos}", *SHORT, *more]


def table(folder: str = "found") -> list[dict[str, str]]:
    with Path(folder, "trials.csv").open(encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_trials_are_runs_by_the_best_checkpoints_score_and_more_can_follow(photos, capsys):
    monitor = ["--best.monitor", "val/loss", "--best.mode=min"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("img2img.training.sweep.subprocess", SimpleNamespace(Popen=trial_in_this_process))
        main(arguments(photos, 1, *monitor))
    before = table()
    main(arguments(photos, 2, *monitor))
    rows = table()
    assert rows[:1] == before
    assert [row["state"] for row in rows] == ["finished", "finished"]
    best = min(rows, key=lambda row: float(row["val/loss"]))
    for row in rows:
        run = Path("found", row["run"])
        checkpoint = torch.load(run / "best.ckpt", weights_only=True)
        (state,) = (each for name, each in checkpoint["callbacks"].items() if name.startswith("BestCheckpoint"))
        assert state["monitor"] == "val/loss"
        assert float(row["val/loss"]) == pytest.approx(float(state["best_model_score"]))
        assert f"lr: {float(row['model.lr'])}" in (run / "config.yaml").read_text()
    assert rows[0]["model.lr"] != rows[1]["model.lr"]
    assert f"Best: trial {best['trial']}," in capsys.readouterr().out
    assert min(Image.open("found/trials.png").size) > 200


@pytest.mark.slow
def test_a_refused_trial_says_why_and_a_corrected_search_takes_its_place(photos, capsys):
    with pytest.raises(SystemExit) as ended:
        main([word.replace("model.lr", "model.rate") for word in arguments(photos, 1)])
    error = capsys.readouterr().err.strip()
    assert ended.value.code == 2
    assert error.splitlines()[-1].startswith("img2img sweep: error: trial 0 (--model.rate=")
    main(arguments(photos, 1))
    assert [row["state"] for row in table()] == ["finished"]
    with pytest.raises(SystemExit):
        main([word.replace("1e-4", "1e-5") for word in arguments(photos, 1)])
    assert "another set" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["--model.lr=1"], "--model.lr is set by the sweep"),
        (["--resume=auto"], "--resume is set by the sweep"),
        (["--set", "data.crop_size=sometimes:1..2"], "no kind 'sometimes'"),
        pytest.param(["--trainer.max_stps=4"], "unrecognized arguments: --trainer.max_stps", marks=pytest.mark.slow),
    ],
)
def test_wrong_options_end_before_training(photos, capsys, more, said):
    with pytest.raises(SystemExit) as ended:
        main([*arguments(photos, 1), *more])
    assert ended.value.code == 2
    assert said in capsys.readouterr().err
    assert not list(Path().rglob("*.ckpt"))


@pytest.mark.slow
def test_killed_sweeps_end_as_if_they_were_never_killed(photos):
    length = ["--trainer.max_steps=60", "--trainer.val_check_interval=20", "--last.every_n_steps=5"]
    words = [*arguments(photos, 6), *length]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    for delay, number in ((25, signal.SIGKILL), (30, signal.SIGTERM), (20, signal.SIGKILL)):
        process = subprocess.Popen([sys.executable, "-P", "-m", "img2img", *words], env=environment)
        time.sleep(delay)
        process.send_signal(number)
        process.wait()
    subprocess.run([sys.executable, "-P", "-m", "img2img", *words], env=environment, check=True)
    disturbed = table()
    Path("found").rename("disturbed")
    subprocess.run([sys.executable, "-P", "-m", "img2img", *words], env=environment, check=True)
    whole = table()
    for row in (*disturbed, *whole):
        del row["seconds"]
    assert disturbed == whole
    assert len(whole) == 6
    assert {row["state"] for row in whole} <= {"finished", "ended early"}
