"""Runs of `img2img restore` in this process, for the tests of the command."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from img2img.cli import main


def command(source: Path, output: Path, model: Path, *more: str) -> list[str]:
    quiet = ["--accelerator=cpu", "--precision=32-true", "--tile=100", "--memory=2GB"]
    return ["restore", str(source), str(output), f"--model={model}", *quiet, *more]


def code_of(arguments: list[str]) -> int:
    """Runs the command in this process."""
    try:
        main(arguments)
    except SystemExit as stop:
        return int(stop.code or 0)
    return 0


def small(tmp_path: Path, photo: np.ndarray, count: int = 2) -> Path:
    folder = tmp_path / "few"
    folder.mkdir()
    for number in range(count):
        Image.fromarray(photo[number : number + 9, :9]).save(folder / f"{number}.png")
    return folder
