"""Runs an attack, and says what it did."""

from __future__ import annotations

import os
import resource
import shutil
import signal
import socket
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NoReturn

from benchmarks.attacks.kit import ENVIRONMENT, MEGABYTES, PROGRAM, SECONDS, Attack, photo, refuse


def run(prepare: Attack, fresh: bool) -> tuple[str, str]:
    """Runs an attack in this (forked) process's child; returns how it ended, and what it said last."""
    folder = Path(tempfile.mkdtemp())
    (folder / "photos").mkdir()
    (folder / "victim").mkdir()
    for place in ("photos/one.png", "photos/two.png", "photos/three.png", "photos/four.png", "victim/photo.png"):
        (folder / place).write_bytes(photo())
    os.mkfifo(folder / "pipe")
    (folder / "evil.py").write_text("open('RAN', 'w')\nclass Net: pass\n")
    before = (folder / "victim/photo.png").stat()
    if fresh:
        (folder / "before").write_text("700000")
    started, child = time.monotonic(), os.fork()
    if child == 0:
        _attack(folder, prepare, fresh)
    code, peak = None, 0
    while code is None and time.monotonic() - started < SECONDS:
        done, status, usage = os.wait4(child, os.WNOHANG)
        if done:
            code, peak = os.waitstatus_to_exitcode(status), usage.ru_maxrss
        else:
            time.sleep(0.05)
    seconds = time.monotonic() - started
    if code is None:
        os.killpg(child, signal.SIGKILL)
        os.waitpid(child, 0)
    said = (folder / "said").read_text(errors="replace") if (folder / "said").exists() else ""
    base = int((folder / "before").read_text()) if (folder / "before").exists() else 0
    now = (folder / "victim/photo.png").stat() if (folder / "victim/photo.png").exists() else None
    flaws = list(
        _flaws(folder, code, said, (peak - base) // 1024, now is not None and now.st_mtime_ns == before.st_mtime_ns)
    )
    lines = [line for line in said.replace("\r", "\n").splitlines() if line.strip() and "Restoring" not in line]
    shutil.rmtree(folder)
    return ", ".join(flaws) or f"held (exit {code}, {seconds:.0f} s, +{max(0, (peak - base) // 1024)} MB)", lines[-1][
        :110
    ] if lines else ""


def _attack(folder: Path, prepare: Attack, fresh: bool) -> NoReturn:
    """Runs an attack and ends this process."""
    os.setsid()
    os.chdir(folder)
    for number in (1, 2):
        os.dup2(os.open("said", os.O_CREAT | os.O_WRONLY | os.O_APPEND), number)
    socket.socket.connect = refuse  # type: ignore[method-assign]
    code = 99
    try:
        command = prepare()
        if fresh:  # libvips does not survive a fork
            os.execve(sys.executable, [sys.executable, "-P", "-c", PROGRAM, *command], ENVIRONMENT)
        Path("before").write_text(str(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss))
        from img2img.cli import main

        main(command)
        code = 0
    except SystemExit as stop:
        code = int(stop.code or 0)
    except BaseException:
        import traceback

        traceback.print_exc()
    finally:
        os._exit(code)


def _flaws(folder: Path, code: int | None, said: str, more: int, unharmed: bool) -> Iterator[str]:
    if code is None:
        yield "NO END"
    elif code not in (0, 1, 2):
        yield f"CRASH {code}"
    if "Traceback" in said:
        yield "TRACEBACK"
    if list(folder.rglob("RAN")):
        yield "CODE RAN"
    if (folder / "CONNECTED").exists():
        yield "NETWORK " + (folder / "CONNECTED").read_text()
    if not unharmed or len(list((folder / "victim").iterdir())) != 1:
        yield "WROTE OUTSIDE: " + ", ".join(path.name for path in (folder / "victim").iterdir())
    if more > MEGABYTES:
        yield f"{more} MB"
