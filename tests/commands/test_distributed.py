"""Two processes on one CPU; in subprocesses, for Lightning starts the others by running the command line again."""

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from tests.conftest import TINY

DDP = ["--trainer.strategy=ddp", "--trainer.devices=2"]
EXACT = "--trainer.precision=64-true"


def run(*argv: str, code: int = 0) -> str:
    """Runs the program in two processes, one thread each; returns what it printed."""
    with subprocess.Popen(
        [sys.executable, *argv],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        start_new_session=True,
    ) as process:
        try:
            out, _ = process.communicate(timeout=200)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)  # the second process would go on alone
            raise
    assert process.returncode == code, out[-3000:]
    return out


@pytest.fixture
def flags(photos) -> list[str]:
    return ["--config", "denoise.yaml", *TINY, f"--data.root={photos}", *DDP]


def table(out: str) -> list[tuple[str, str]]:
    return re.findall(r"(test/\S+)[\s│]+(\S+)", out)


@pytest.mark.parametrize("optimizer", [[], ["--model.optimizer=null"]])
def test_two_processes_train_on_the_same_samples_as_one(program, flags, optimizer):
    length = (EXACT, "--trainer.max_steps=4", *optimizer)
    program("fit", *length, "--data.batch_size=4")
    program("fit", *length, "--data.batch_size=4", "--seed_everything=1")
    os.environ.pop("IMG2IMG_RUN")
    run("-m", "img2img", "fit", *flags, *length, "--data.batch_size=2")
    one, control, two = (
        torch.load(f"runs/denoise/{n}/last.ckpt", weights_only=True)["current_model_state"] for n in range(3)
    )
    assert max((one[k] - two[k]).abs().max() for k in one) < 1e-12
    assert max((one[k] - control[k]).abs().max() for k in one) > 1e-5


def test_each_image_counts_once_also_with_an_odd_number(program, photos, flags, checkpoint, capsys):
    for image in sorted((photos / "test").glob("*.png"))[1:]:
        image.unlink()  # one image with three corruptions
    capsys.readouterr()
    test = (EXACT, f"--ckpt_path={checkpoint}")
    program("test", *test)
    alone, shared = table(capsys.readouterr().out), table(run("-m", "img2img", "test", *flags, *test))
    assert len(alone) == 13
    assert alone == shared


@pytest.mark.slow
def test_more_processes_than_images_write_the_one_image_once(photos, flags, checkpoint):
    one = Path("one")
    one.mkdir()
    next(photos.rglob("*.png")).rename(one / "a.png")
    run(
        "-m",
        "img2img",
        "predict",
        *flags,
        f"--ckpt_path={checkpoint}",
        "--restore.input=one",
        "--restore.output=restored",
    )
    assert [path.name for path in Path("restored").glob("*.png")] == ["a.png"]


def test_restore_writes_each_file_once_and_says_what_failed(photos, checkpoint):
    (photos / "broken.png").write_bytes(b"")  # the eleventh file: an odd number for two processes
    argv = ["restore", str(photos), "out", "--model", str(checkpoint), "--accelerator=cpu", "--devices=2"]
    assert "broken.png" in run("-m", "img2img", *argv, "--memory=1.251GB", code=1)  # so little that none share a batch
    shares = [
        [json.loads(line)["begun"] for line in journal.read_text().splitlines() if "begun" in line]
        for journal in sorted(Path("out/.img2img").glob("journal-*.jsonl"))
    ]
    assert len(shares) == 2
    assert all(shares)
    (photos / "broken.png").unlink()
    expected = sorted(path.relative_to(photos).as_posix() for path in photos.rglob("*.png"))
    assert sorted(shares[0] + shares[1]) == expected
    report = json.loads(Path("out/restore_report.json").read_text())
    assert (report["restored"], report["failed"], len(report["files"])) == (10, 1, 11)
