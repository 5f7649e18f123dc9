"""Lists the images of a folder; of a large one, once: the list is kept until a folder in it changes."""

from __future__ import annotations

import hashlib
import io
import itertools
import json
import os
import shutil
import tempfile
import time
import warnings
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from functools import lru_cache
from pathlib import Path

import numpy as np

from img2img.data import names
from img2img.data.cache import cache_folder
from img2img.data.names import ENDS, NAMES, ManyPaths, Names, open_names, synced, write_names
from img2img.imaging.folders import find_images, walk_images

_KEPT = 8  # lists of large folders, the latest
_FOLDERS = "folders.json"
_RECENT_NS = 2_000_000_000  # a folder changed twice within its clock's tick shows one time, on some disks two seconds

State = tuple[str, int, int, int]
"""A folder, its device, its inode, and when names in it last changed, in ns; 0 if that was too recent to trust."""


def images_of(folder: Path) -> Sequence[Path]:
    """Returns the images below a folder, sorted by name; more than `LARGE` of them as paths that are made on use.

    The folders of training runs below it are left out.

    The list of a large folder is kept in the user's cache folder. It is used again as long as no folder below has
    gained, lost or renamed an entry, which their times of change tell.

    Raises:
        FileNotFoundError: If the folder does not exist.
        NotADirectoryError: If it is a file.
    """
    if not folder.is_dir():
        return tuple(find_images(folder))  # says what is wrong
    kept = _kept_lists(folder)
    for stored in sorted(kept.glob("*"), reverse=True):
        with suppress(OSError, ValueError):  # another process deletes it, or it is damaged
            if all(_state(state[0]) == state for state in _states(stored)):
                return ManyPaths(folder, _opened(stored))
    states: list[State] = []
    runs: list[str] = []

    def left_out(place: str) -> bool:
        if is_run := _is_run(place):
            runs.append(place)
        return is_run

    found = walk_images(folder, entered=lambda place: states.append(_state(place)), left_out=left_out)
    first = list(itertools.islice(found, names.LARGE + 1))
    many = None if len(first) <= names.LARGE else ManyPaths(folder, _keep(itertools.chain(first, found), states, kept))
    if runs:
        more = f" and {len(runs) - 1} more" if len(runs) > 1 else ""
        warnings.warn(f"left out the pictures of earlier runs, in {runs[0]}{more}", stacklevel=2)
    return tuple(folder / name for name in first) if many is None else many


def _is_run(folder: str) -> bool:
    """Returns whether a folder is that of a training run, whose pictures must not be trained on."""
    made = ("grid.png", "last.ckpt", "best.ckpt")
    return os.path.exists(f"{folder}/config.yaml") and any(os.path.exists(f"{folder}/{name}") for name in made)


def _state(folder: str) -> State:
    """Returns the state of a folder, taken before its names are read."""
    now = time.time_ns()
    try:
        stat = os.stat(folder)
    except OSError:
        return (folder, 0, 0, 0)
    changed = max(stat.st_mtime_ns, stat.st_ctime_ns)
    return (folder, stat.st_dev, stat.st_ino, changed if changed < now - _RECENT_NS else 0)


def _states(stored: Path) -> list[State]:
    """Returns the states that a kept list was made from.

    Raises:
        ValueError: If a folder had changed too recently: a change after the listing might show the same time.
    """
    states: list[State] = [tuple(state) for state in json.loads((stored / _FOLDERS).read_text(encoding="utf-8"))]
    if not states or any(state[3] == 0 for state in states):
        raise ValueError("not to be trusted")
    return states


def _kept_lists(folder: Path) -> Path:
    place = hashlib.blake2b(os.path.abspath(folder).encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()
    return cache_folder().parent / "listings" / place


def _keep(found: Iterator[str], states: list[State], kept: Path) -> Names:
    """Writes a list into the cache folder and opens it; keeps it in memory if there is no place on disk."""
    try:
        kept.mkdir(parents=True, exist_ok=True)
        part = Path(tempfile.mkdtemp(dir=kept.parent, prefix="."))
    except OSError:
        return _in_memory(found)
    try:
        with open(part / NAMES, "wb") as text, open(part / ENDS, "wb") as ends:
            write_names(found, text, ends)
            synced(text)
            synced(ends)
        (part / _FOLDERS).write_text(json.dumps(states), encoding="utf-8")  # complete only when all was walked
        stored = kept / f"{time.time_ns():020}"
        part.rename(stored)
    except BaseException:
        shutil.rmtree(part, ignore_errors=True)
        raise
    lists = sorted(kept.parent.glob("*/*"), key=lambda path: path.name, reverse=True)
    for old in {*lists[_KEPT:], *(path for path in kept.glob("*") if path != stored)}:
        shutil.rmtree(old, ignore_errors=True)
    return _opened(stored)


@lru_cache(maxsize=16)
def _opened(stored: Path) -> Names:
    return open_names(stored)


def _in_memory(found: Iterable[str]) -> Names:
    text, ends = io.BytesIO(), io.BytesIO()
    write_names(found, text, ends)
    return Names(np.frombuffer(text.getvalue(), np.uint8), np.frombuffer(ends.getvalue(), np.dtype("<u8")))
