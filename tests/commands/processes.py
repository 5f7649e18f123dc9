"""The program in processes of its own, which can be interrupted and killed."""

from __future__ import annotations

import io
import json
import multiprocessing
import os
import signal
from multiprocessing.process import BaseProcess
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from PIL import Image

# Forked from a process that has imported everything and computed nothing: to start takes no seconds.
_CONTEXT = multiprocessing.get_context("forkserver")
_CONTEXT.set_forkserver_preload(
    [
        *("img2img.trainer", "img2img.inference.run", "img2img.tasks.recipe"),
        *("img2img.inference.writer", "img2img.inference.progress", "img2img.inference.loader"),
        "img2img.networks",
    ]
)


def start(arguments: list[str], log: Path) -> BaseProcess:
    """Starts `img2img` with these arguments; what it prints is appended to a file."""
    process = _CONTEXT.Process(target=_run, args=(arguments, str(log)), daemon=True)
    process.start()
    return process


def _run(arguments: list[str], log: str) -> None:
    file = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(file, 1)
    os.dup2(file, 2)
    import torch

    from img2img.cli import main

    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs ignore it, and pass that on
    torch.set_num_threads(1)
    main(arguments)


def trial_in_this_process(command: list[str], env: dict[str, str], **_: Any) -> Any:
    """Trains a sweep's trial in place of `subprocess.Popen`; a process of its own would import for eight seconds."""
    from img2img.cli import main

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("os.getppid", os.getpid)  # a trial ends when the sweep is gone
        patch.delenv("IMG2IMG_RUN", raising=False)
        for name, value in env.items():
            patch.setenv(name, value)
        main(command[command.index("fit") :])
    return SimpleNamespace(wait=lambda: 0)


def outputs(folder: Path) -> dict[str, bytes]:
    """Every file under a final name by relative path, without the report, in which times stand."""
    files = {path.relative_to(folder).as_posix(): path for path in folder.rglob("*") if path.is_file()}
    hidden = {name for name in files if any(part.startswith(".") for part in Path(name).parts)}
    return {name: files[name].read_bytes() for name in sorted(set(files) - hidden - {"restore_report.json"})}


def flaws(folder: Path, undisturbed: dict[str, bytes]) -> list[str]:
    """What is wrong with what a killed run has left under final names."""
    wrong = []
    for name, data in outputs(folder).items():
        try:
            with Image.open(io.BytesIO(data)) as image:
                image.load()
        except Exception as error:
            wrong.append(f"{name} cannot be decoded: {error}")
        if data != undisturbed.get(name):
            wrong.append(f"{name} is not what an undisturbed run makes")
    report = folder / "restore_report.json"
    if report.exists():
        json.loads(report.read_text())
    return wrong
