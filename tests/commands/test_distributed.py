"""Two processes on one CPU; in subprocesses, for Lightning starts the others by running the command line again."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import psutil
import pytest
import torch

import img2img
from tests.commands.models import save_model
from tests.conftest import TINY
from tests.pages import ROOT

DDP = ["--trainer.strategy=ddp", "--trainer.devices=2"]
EXACT = "--trainer.precision=64-true"
CONFIGS = ROOT / "configs"


def run(*argv: str, code: int = 0, meanwhile: Callable[[int], None] = lambda pid: None) -> str:
    """Runs the program in two processes, one thread each; returns what it printed.

    Meanwhile, it calls a function with the number of the first process.
    """
    with subprocess.Popen(
        [sys.executable, *argv],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        start_new_session=True,
    ) as process:
        try:
            meanwhile(process.pid)
            out, _ = process.communicate(timeout=200)
        except BaseException:
            os.killpg(process.pid, signal.SIGKILL)  # the second process would go on alone
            raise
    assert process.returncode == code, out[-3000:]
    return out


@pytest.fixture
def flags(photos) -> list[str]:
    return ["--config", "denoise.yaml", *TINY, f"--data.root={photos}", *DDP]


def table(out: str) -> list[tuple[str, str]]:
    return re.findall(r"(test/\S+)[\s│]+(\S+)", out)


COMMANDS = """
from img2img.cli import main

for words in {commands}:
    main(words)
"""
"""A script of several commands: processes are started once, and import once."""


@pytest.mark.parametrize("optimizer", [[], pytest.param(["--model.optimizer=null"], marks=pytest.mark.slow)])
def test_two_processes_train_as_one_measure_each_image_once_and_restore_each_file_once(
    program, photos, flags, optimizer, capsys
):
    for image in sorted((photos / "test").glob("*.png"))[1:]:
        image.unlink()  # one image with three corruptions: an odd number
    many = Path(shutil.copytree(photos, "many"))
    (many / "broken.png").write_bytes(b"")
    shutil.copy(next((many / "test").glob("*.png")), many / "again.png")  # eleven files in all: an odd number
    length = (EXACT, "--trainer.max_steps=4", *optimizer)
    program("fit", *length, "--data.batch_size=4")
    program("fit", *length, "--data.batch_size=4", "--seed_everything=1")
    os.environ.pop("IMG2IMG_RUN")
    measured = (EXACT, "--ckpt_path=runs/denoise/0/last.ckpt")
    capsys.readouterr()
    program("test", *measured)
    alone = table(capsys.readouterr().out)
    restore = ["restore", "many", "out", "--model=runs/denoise/0/last.ckpt", "--accelerator=cpu", "--devices=2"]
    restore += ["--memory=1.281GB"]  # so little that no two images share a batch
    commands = [["fit", *flags, *length, "--data.batch_size=2"], ["test", *flags, *measured], restore]
    Path("both.py").write_text(COMMANDS.format(commands=commands))
    said = run("both.py", code=1)
    one, control, two = (
        torch.load(f"runs/denoise/{n}/last.ckpt", weights_only=True)["current_model_state"] for n in range(3)
    )
    assert max((one[k] - two[k]).abs().max() for k in one) < 1e-12
    assert max((one[k] - control[k]).abs().max() for k in one) > 1e-5
    assert len(alone) == 13
    assert alone == table(said)
    assert "broken.png" in said
    check_shares(many)


def check_shares(many: Path) -> None:
    """Checks that two processes shared the files of a folder, restored all but the broken one, and reported it."""
    shares = [
        [json.loads(line)["begun"] for line in journal.read_text().splitlines() if "begun" in line]
        for journal in sorted(Path("out/.img2img").glob("journal-*.jsonl"))
    ]
    assert len(shares) == 2
    assert all(shares)
    (many / "broken.png").unlink()
    expected = sorted(path.relative_to(many).as_posix() for path in many.rglob("*.png"))
    assert sorted(shares[0] + shares[1]) == expected
    report = json.loads(Path("out/restore_report.json").read_text())
    assert (report["restored"], report["failed"], len(report["files"])) == (10, 1, 11)


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


def wait_until(condition: Callable[[], bool]) -> None:
    limit = time.monotonic() + 150
    while not condition():
        assert time.monotonic() < limit
        time.sleep(0.02)


def kill_second_when(there: Path, text: str) -> Callable[[int], None]:
    """Returns a function that kills the second process as soon as a file holds a text."""

    def kill(first: int) -> None:
        wait_until(lambda: there.exists() and text in there.read_text())
        psutil.Process(first).children()[0].kill()

    return kill


@pytest.mark.slow
def test_restore_reports_what_is_done_when_a_process_is_killed(photo, tmp_path):
    folder = tmp_path / "many"
    folder.mkdir()
    for number in range(40):
        (folder / f"{number}.ppm").write_bytes(b"P6 320 320 255\n" + np.roll(photo, number, 0).tobytes())
    argv = ["-m", "img2img", "restore", str(folder), "out", f"--model={save_model(tmp_path / 'model.ckpt')}"]
    argv += ["--accelerator=cpu", "--devices=2", "--tile=64", "--precision=32-true"]
    out = run(*argv, code=1, meanwhile=kill_second_when(Path("out/.img2img/journal-1.jsonl"), "begun"))
    assert "process 1 of 2 was killed (SIGKILL" in out
    assert "process 1 of 2 (the first is 0) was lost; fix that and run the same command again" in out
    assert "Traceback" not in out
    written = len(list(Path("out").glob("*.ppm")))
    assert 20 <= written < 40  # the first one has finished its own half
    report = json.loads(Path("out/restore_report.json").read_text())
    assert (report["restored"], report["failed"], len(report["files"])) == (written, 0, written)
    assert f"Restored {40 - written} image(s) into out, {written} were restored before" in run(*argv)


@pytest.mark.slow
def test_fit_says_that_a_process_was_killed(flags):
    events = Path("runs/denoise/0/config.yaml")  # written when training begins
    flags += ["--trainer.max_steps=100000"]
    out = run("-m", "img2img", "fit", *flags, code=1, meanwhile=kill_second_when(events, "max_steps"))
    assert "process 1 of 2 was killed (SIGKILL" in out
    assert out.count("img2img fit: error: another process of this run was lost") == 1
    assert "Traceback" not in out


SLOWLY = """
import time
from pathlib import Path
from img2img.data import CorruptedPairs

class Slowly(CorruptedPairs):
    def prepare_data(self):
        Path("preparing").write_text("now")
        time.sleep(PAUSE)
        super().prepare_data()
"""
"""Data that take long to prepare, which the first process does."""


def with_slow_data(flags: list[str], pause: float) -> list[str]:
    Path("slowly.py").write_text(SLOWLY.replace("PAUSE", str(pause)))
    config = (CONFIGS / "denoise.yaml").read_text().replace("class_path: CorruptedPairs", "class_path: slowly.Slowly")
    Path("slow.yaml").write_text(config)
    return ["slow.yaml" if flag == "denoise.yaml" else flag for flag in flags]


@pytest.mark.slow
@pytest.mark.parametrize("stopped", [0, 1])
def test_a_process_that_stops_without_a_word_while_data_are_prepared_does_not_hang_the_others(flags, stopped):
    """As when a host hangs, or its network is gone: nothing closes the connections."""
    flags = [*with_slow_data(flags, pause=5), "--trainer.max_steps=2", "--trainer.timeout=45"]

    def stop(first: int) -> None:
        wait_until(Path("preparing").exists)
        two = [psutil.Process(first), psutil.Process(first).children()[0]]
        two[stopped].suspend()
        if stopped == 0:  # it cannot take note of the end of the other one, which waits for it
            wait_until(lambda: two[1].status() == psutil.STATUS_ZOMBIE)
            two[0].kill()

    out = run("-m", "img2img", "fit", *flags, code=1 if stopped else -signal.SIGKILL, meanwhile=stop)
    assert out.count("img2img fit: error: another process of this run was lost, or did not answer for 45 s") == 1
    assert "Traceback" not in out


@pytest.mark.slow
def test_processes_wait_for_data_that_take_longer_than_the_timeout(flags):
    flags = [*with_slow_data(flags, pause=60), "--trainer.max_steps=2", "--trainer.timeout=45"]
    assert "Done" in run("-m", "img2img", "fit", *flags)


@pytest.mark.slow
@pytest.mark.parametrize("optimizer", [[], ["--model.optimizer=null"]])
def test_a_divided_network_learns_the_same_and_its_checkpoints_are_whole(program, flags, optimizer):
    flags[flags.index("--trainer.strategy=ddp")] = "--trainer.strategy=fsdp"
    length = (EXACT, "--trainer.max_steps=6", "--last.every_n_steps=4", *optimizer)
    program("fit", *length, "--data.batch_size=4")
    os.environ.pop("IMG2IMG_RUN")
    keep = "--trainer.callbacks+=kept.Kept"
    Path("kept.py").write_text(KEPT)
    run("-m", "img2img", "fit", *flags, *length, "--data.batch_size=2", keep)
    assert apart(0, 1) < 1e-12
    os.environ.pop("IMG2IMG_RUN", None)
    program("fit", *length, "--data.batch_size=4", "--ckpt_path=step4.ckpt")  # one process goes on
    assert apart(0, 2) < 1e-12
    os.environ.pop("IMG2IMG_RUN", None)
    run("-m", "img2img", "fit", *flags, *length, "--data.batch_size=2", "--ckpt_path=step4.ckpt")  # two go on
    assert apart(0, 3) < 1e-12
    one, divided = (img2img.load(f"runs/denoise/{n}/last.ckpt") for n in (0, 1))
    image = torch.rand(1, 3, 20, 30)
    assert torch.allclose(one(image), divided(image), atol=1e-6)
    assert not torch.allclose(divided(image), image, atol=1e-6)


KEPT = """
import shutil
from lightning.pytorch import Callback

class Kept(Callback):
    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        if trainer.global_step == 5 and trainer.is_global_zero:
            shutil.copy("runs/denoise/1/last.ckpt", "step4.ckpt")
"""


def apart(first: int, second: int) -> float:
    """The largest difference of the weights of two runs, latest and averaged."""
    one, two = (torch.load(f"runs/denoise/{n}/last.ckpt", weights_only=True) for n in (first, second))
    kinds = ("current_model_state", "state_dict")
    return max(float((one[kind][k] - two[kind][k]).abs().max()) for kind in kinds for k in one[kind])


@pytest.mark.slow
def test_an_autoencoder_is_not_divided(photos):
    flags = [*TINY, f"--data.root={photos}", "--trainer.strategy=fsdp", "--trainer.devices=1", "--trainer.max_steps=1"]
    flags = [flag for flag in flags if "crop_size" not in flag and "blocks" not in flag]
    out = run("-m", "img2img", "fit", "--config", "vae.yaml", *flags, code=2)
    assert out.splitlines()[-1] == (
        "img2img fit: error: --trainer.strategy fsdp does not divide autoencoders; use --trainer.strategy ddp"
    )
