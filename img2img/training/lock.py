"""One process at a time in a run's folder, and what it leaves there: who it was."""

from __future__ import annotations

import json
import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from img2img.errors import UserError
from img2img.imaging.parts import remove_leftovers

_OWNER = ".owner.json"
_PATIENCE = 15.0
"""Seconds to wait for the workers of a killed run, which share its lock until they notice."""


@contextmanager
def alone_in(folder: Path) -> Iterator[None]:
    """Holds the lock of a run's folder, and first removes the half files that killed runs have left there.

    The system frees the lock when the process ends, however it ends.

    Raises:
        UserError: If another process trains in this folder.
    """
    lock = FileLock(folder / ".lock")
    waited_until = time.monotonic() + _PATIENCE
    while True:
        try:
            lock.acquire(timeout=0)
            break
        except Timeout:
            owner = owner_of(folder)
            here = owner.get("host") == socket.gethostname()
            if not here or _lives(owner.get("pid")) or time.monotonic() > waited_until:
                who = f"process {owner.get('pid', '?')} on {owner.get('host', '?')}"
                raise UserError(f"{who} is training in {folder}; wait until it ends, or stop it") from None
            time.sleep(0.2)
        except (OSError, NotImplementedError):  # a file system without locks
            break
    try:
        remove_leftovers(folder)
        owner = {"pid": os.getpid(), "host": socket.gethostname(), "job": os.environ.get("SLURM_JOB_ID")}
        (folder / _OWNER).write_text(json.dumps(owner))
        yield
    finally:
        lock.release()


def owner_of(folder: Path) -> dict[str, Any]:
    """Returns pid, host and SLURM job of the process that trained last in a run's folder; nothing if unknown."""
    try:
        found = json.loads((folder / _OWNER).read_text())
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def _lives(pid: Any) -> bool:
    """Returns whether a process of this machine runs; also if that cannot be known."""
    try:
        os.kill(int(pid), 0)
    except ProcessLookupError:
        return False
    except (OSError, TypeError, ValueError):
        return True
    return True
