"""Python files beside photographs and configs never run, unless a config or `--trust` names their classes."""

from __future__ import annotations

import importlib
import os
import subprocess
import sys
from pathlib import Path

import pytest

from img2img.own_classes import OwnClasses, look_for, modules_in
from tests.conftest import TINY

OPTIONAL = [
    *(
        "opt_einsum",
        "gmpy2",
        "regex",
        "snappy",
        "zstandard",
        "tabulate",
        "tensorflow",
        "matplotlib",
        "pandas",
        "IPython",
    ),
    *("csv", "json", "email", "pkgutil", "pickle", "struct", "multiprocessing", "six", "usercustomize", "colorama"),
]
"""Modules that libraries, or Python's own, look for; some are there, some are not."""
OWN = """
from torch import nn

class Normed(nn.Sequential):
    def __init__(self, width: int = 4):
        super().__init__(nn.Conv2d(3, width, 3, padding=1), nn.BatchNorm2d(width), nn.Conv2d(width, 3, 1))
"""
PROGRAM = [str(Path(sys.executable).with_name("img2img"))]
AS_MODULE = [sys.executable, "-m", "img2img"]


def run(program: list[str], *arguments: str | Path) -> str:
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run([*program, *arguments], capture_output=True, text=True, timeout=300, env=environment)
    assert done.returncode == 0, done.stderr
    return done.stdout


def plant() -> None:
    """Lays hostile files into the working directory, and photographs into innocent folders."""
    for name in OPTIONAL:
        Path(f"{name}.py").write_text(f"open('RAN-{name}', 'w').close()\n")
    for name in ("scipy", "sympy", "mpmath"):
        Path(name).mkdir()
        Path(name, "notes.txt").write_text("photographs")


def nothing_ran() -> bool:
    return not list(Path.cwd().glob("RAN-*"))


def own_config(root: Path, module: str = "mine") -> str:
    network = f"{{class_path: {module}.Normed, init_args: {{width: 6}}}}"
    Path("own.yaml").write_text(
        f"model: {{class_path: Restoration, init_args: {{network: {network}}}}}\n"
        f"data: {{class_path: CorruptedPairs, init_args: {{root: '{root}', crop_size: 16, batch_size: 2}}}}\n"
        "trainer: {max_steps: 2, accelerator: cpu, enable_progress_bar: false}\n"
    )
    return "own.yaml"


def test_training_with_a_class_of_ones_own_runs_nothing_else(photos):
    plant()
    Path("mine.py").write_text(OWN)
    run(AS_MODULE, "fit", "--config", own_config(photos), "--data.num_workers=1")
    assert Path("runs/own/0/best.ckpt").is_file()
    assert nothing_ran()


@pytest.mark.slow
@pytest.mark.parametrize("program", [PROGRAM, AS_MODULE], ids=["script", "module"])
def test_no_command_runs_what_lies_beside_the_photographs(program, photos):
    plant()
    photos.rename("photos")
    run(program, "restore", "photos", "out", "--model=denoise", "--dry-run", "--accelerator=cpu")
    run(program, "restore", "photos", "out", "--model=denoise", "--accelerator=cpu", "--html")
    run(program, "preview", "--config=denoise.yaml", "--data.root=photos", "--n=2", "pairs.png")
    fit = ["--data.root=photos", "--data.batch_size=2", *TINY[-2:], "--trainer.max_steps=2"]
    run(program, "fit", "--config=anomaly_autoencoder.yaml", *fit, "--data.image_size=[32,32]")
    run(program, "score", "photos", "out.csv", "--model=runs/anomaly_autoencoder/0/best.ckpt", "--accelerator=cpu")
    run(program, "encode", "photos", "out.npz", "--model=runs/anomaly_autoencoder/0/best.ckpt", "--accelerator=cpu")
    run(program, "fit", "--config=denoise.yaml", *TINY, "--data.root=photos", "--trainer.max_steps=2")
    assert nothing_ran()


@pytest.mark.slow
@pytest.mark.parametrize("names", [("regex", "matplotlib"), ("opt_einsum", "tensorflow")])
def test_folders_of_photographs_may_be_named_like_packages(names, photos):
    photos.rename(names[0])
    Path(names[1]).mkdir()
    run(PROGRAM, "restore", names[0], "out", "--model=denoise", "--accelerator=cpu")
    run(PROGRAM, "fit", "--config=denoise.yaml", *TINY, f"--data.root={names[0]}", "--trainer.max_steps=1")


@pytest.mark.slow
@pytest.mark.parametrize("program", [PROGRAM, AS_MODULE], ids=["script", "module"])
def test_two_processes_and_their_workers_find_a_class_of_ones_own(program, photos):
    plant()
    Path("mine.py").write_text(OWN)
    two = ["--trainer.devices=2", "--trainer.strategy=ddp", "--data.num_workers=1"]
    run(program, "fit", "--config", own_config(photos), *two)
    run(program, "restore", photos, "out", "--model=runs/own/0/best.ckpt", "--trust=mine", "--devices=2")
    assert len(list(Path("out").rglob("*.png"))) == 10
    assert nothing_ran()


@pytest.mark.slow
def test_spawned_workers_find_a_corruption_of_ones_own(photos):
    plant()
    Path("mine.py").write_text(
        OWN
        + "from albumentations import Blur\n"
        + "class Own(Blur):\n    def __init__(self, p: float = 1):\n        super().__init__(p=p)\n"
    )
    config = Path(own_config(photos))
    config.write_text(config.read_text().replace("crop_size", "corruption: [{class_path: mine.Own}], crop_size"))
    program = Path("elsewhere", "program.py")
    program.parent.mkdir()
    program.write_text(
        "from multiprocessing import set_start_method\nfrom img2img.cli import main\n"
        "if __name__ == '__main__':\n    set_start_method('spawn')\n    main()\n"
    )
    run([sys.executable, str(program)], "fit", "--config", config, "--data.num_workers=1", "--trainer.max_steps=1")
    assert nothing_ran()


def test_only_the_names_that_are_allowed_are_found(monkeypatch):
    monkeypatch.setattr(sys, "meta_path", sys.meta_path.copy())
    for name in ("own_a", "own_b"):
        Path(f"{name}.py").write_text("")
    look_for(["own_a.Net"])
    assert isinstance(sys.meta_path[-1], OwnClasses)
    importlib.import_module("own_a")
    with pytest.raises(ModuleNotFoundError):
        importlib.import_module("own_b")
    look_for([])
    del sys.modules["own_a"]
    with pytest.raises(ModuleNotFoundError):
        importlib.import_module("own_a")


def test_which_modules_settings_name():
    settings = {
        "model": {"class_path": "mine.Net", "init_args": {"loss": "other.deep.Loss", "root": "regex.old"}},
        "more": [{"class_path": "Restoration"}, "a sentence. With dots", 3.5, "https://x.y", None],
    }
    assert set(modules_in(settings, {"root"})) == {"mine", "other"}
