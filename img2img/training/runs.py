"""The folders of runs: `runs/<config name>/<n>/`."""

from __future__ import annotations

import os
from pathlib import Path

from img2img.errors import UserError

RUNS = "runs"
_CLAIMED = "IMG2IMG_RUN"  # tells the other processes of a run, which start later, the folder that the first one claimed


def run_name(config: Path | None) -> str:
    """Returns the name of the folder of a config's runs; a run's saved config has the same name."""
    if config is None:
        return "run"
    if config.name == "config.yaml" and config.resolve().parent.name.isdigit():
        return config.resolve().parent.parent.name
    return config.stem


def runs_of(root: Path, name: str) -> list[Path]:
    """Returns the run folders of a name, oldest first."""
    folder = root / name
    numbered = [child for child in folder.iterdir() if child.name.isdigit()] if folder.is_dir() else []
    return sorted(numbered, key=lambda child: int(child.name))


def newest_checkpoint(root: Path, name: str, which: str) -> Path:
    """Returns `last.ckpt` or `best.ckpt` of the newest run that has it.

    Raises:
        UserError: If no run has that checkpoint.
    """
    for folder in reversed(runs_of(root, name)):
        if (folder / f"{which}.ckpt").is_file():
            return folder / f"{which}.ckpt"
    raise UserError(f"--ckpt_path {which}: there is no {which}.ckpt in any run under {root / name}")


def claim_run(root: Path, name: str, first_process: bool) -> Path:
    """Returns the folder of a new run, and creates it if this is the run's first process."""
    if _CLAIMED in os.environ and not first_process:
        return Path(os.environ[_CLAIMED])
    while True:
        numbers = [int(folder.name) for folder in runs_of(root, name)]
        folder = root / name / str(max(numbers, default=-1) + 1)
        if not first_process:
            return folder  # started by an external launcher; Lightning broadcasts rank zero's folder
        try:
            folder.mkdir(parents=True)
        except FileExistsError:  # another run claimed it at this moment
            continue
        os.environ[_CLAIMED] = str(folder)
        return folder
