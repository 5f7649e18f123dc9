"""The folders of runs: `runs/<config name>/<n>/`."""

from __future__ import annotations

import os
import re
import warnings
import zipfile
from pathlib import Path

from img2img.errors import UserError
from img2img.training.lock import owner_of

RUNS = "runs"
_NUMBER = re.compile("[0-9]{1,9}")  # not `isdigit`, which takes ² for a digit too
_CLAIMED = "IMG2IMG_RUN"  # tells the other processes of a run, which start later, the folder that the first one claimed


def run_name(config: Path | None) -> str:
    """Returns the name of the folder of a config's runs; a run's saved config has the same name."""
    if config is None:
        return "run"
    if config.name == "config.yaml" and _NUMBER.fullmatch(config.resolve().parent.name):
        return config.resolve().parent.parent.name
    return config.stem


def runs_of(root: Path, name: str) -> list[Path]:
    """Returns the run folders of a name, oldest first."""
    folder = root / name
    numbered = [child for child in folder.iterdir() if _NUMBER.fullmatch(child.name)] if folder.is_dir() else []
    return sorted(numbered, key=lambda child: int(child.name))


def newest_checkpoint(root: Path, name: str, which: str) -> Path:
    """Returns the newest readable checkpoint of the newest run.

    Args:
        root: The folder of all runs.
        name: The name of the runs.
        which: `last`, or `best` for `best.ckpt` only.

    Raises:
        UserError: If that run has no such checkpoint, or all are damaged.
    """
    folders = runs_of(root, name)
    having = [folder for folder in folders if _existing(folder, which)]
    if not having:
        raise UserError(f"--ckpt_path {which}: there is no {which}.ckpt in any run under {root / name}")
    newest, older = folders[-1], having[-1]
    if older != newest:
        raise UserError(
            f"--ckpt_path {which}: the newest run, {newest}, has no {which}.ckpt; to use that of the run before it, "
            f"give --ckpt_path {_existing(older, which)[0]}, or remove {newest}"
        )
    return _readable(newest, which)


def run_to_resume(root: Path, name: str, rightly_asked: bool) -> tuple[Path | None, Path | None]:
    """Returns the folder in which `--resume auto` trains, and the checkpoint from which; None for new ones.

    It is the run of this SLURM job, which may have been requeued, else the newest run.

    Args:
        root: The folder of all runs.
        name: The name of the runs.
        rightly_asked: Whether `--resume auto` was given, and to `fit`, and without `--ckpt_path`.

    Raises:
        UserError: If that run has checkpoints, but all are damaged; or if it was not asked rightly.
    """
    if not rightly_asked:
        raise UserError("it is --resume auto, for img2img fit without --ckpt_path: it starts a run or goes on in it")
    folders, job = runs_of(root, name), os.environ.get("SLURM_JOB_ID")
    own = [folder for folder in folders if job is not None and owner_of(folder).get("job") == job]
    folder = next(reversed(own or folders), None)
    return folder, None if folder is None or not _existing(folder, "last") else _readable(folder, "last")


def _existing(folder: Path, which: str) -> list[Path]:
    """Returns a run's checkpoints that serve as `last` or `best`, the first choice first."""
    names = ("last.ckpt", "last.previous.ckpt", "best.ckpt") if which == "last" else ("best.ckpt",)
    return [folder / name for name in names if (folder / name).is_file()]


def _readable(folder: Path, which: str) -> Path:
    damaged: list[str] = []
    for path in _existing(folder, which):
        if is_whole(path):
            if damaged:
                warnings.warn(f"{', '.join(damaged)} is damaged; {path} takes its place", stacklevel=2)
            return path
        damaged.append(str(path))
    raise UserError(f"--ckpt_path {which}: {', '.join(damaged)} is damaged, and {folder} has no other checkpoint")


def is_whole(path: Path) -> bool:
    """Returns whether every byte of a checkpoint is as it was written, by the checksums in it."""
    try:
        with zipfile.ZipFile(path) as archive:
            return archive.testzip() is None
    except (zipfile.BadZipFile, OSError, EOFError, ValueError, NotImplementedError):
        return False


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
