"""Lets files arrive in a folder that `img2img restore --watch` watches, and checks that each is restored exactly once.

    python -m benchmarks.watch_folder [--files 200] [--seconds 60] [--kills 3] [--seed 0]

Small crops of the starter photographs arrive at moments drawn uniformly; a third is copied, a third moved in, a third
written in two halves with a pause between them. The run is killed (SIGKILL) at random moments and started again with
the same command. At the end it gets Ctrl-C. Every file must then be there, decode, equal what a run over the whole
folder makes, and have one record of being restored in the journal; one file for each kill may have none before the
kill, because it was killed between its name and its record, and is then restored again. Prints the delays from a
file's arrival to its output, in seconds; the exit code is 1 if anything was wrong.
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import signal
import statistics
import sys
import tempfile
import time
from multiprocessing.process import BaseProcess
from pathlib import Path

from PIL import Image

from img2img.imaging.parts import find_leftovers
from tests.commands.models import save_model
from tests.commands.processes import flaws, outputs, start
from tests.commands.restoring import command
from tests.commands.test_restore_watch import times_restored

STARTER = Path(__file__).parent.parent / "data" / "starter"
PATIENCE = 120.0


def main() -> None:
    """Runs it and prints what was found."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--files", type=int, default=200)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--kills", type=int, default=3)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        wrong = watch(Path(folder), options.files, options.seconds, options.kills, random.Random(options.seed))
    print("\n".join(wrong) or "every file was restored exactly once, and is what a run over the whole folder makes")
    sys.exit(bool(wrong))


def fill(root: Path, files: int) -> list[Path]:
    """Makes the files that will arrive."""
    root.mkdir()
    photographs = sorted(STARTER.rglob("*.png"))
    made = [root / f"{number:04d}.png" for number in range(files)]
    for number, path in enumerate(made):
        with Image.open(photographs[number % len(photographs)]) as image:
            image.convert("RGB").crop((number % 50, 0, number % 50 + 48, 64)).save(path)
    return made


def arrive(made: Path, folder: Path, kind: int) -> None:
    """Lets a copy of a file arrive, in one of three ways."""
    place = folder / made.name
    if kind == 0:
        shutil.copy(made, place)
    elif kind == 1:
        shutil.copy(made, folder / ".moving")
        os.replace(folder / ".moving", place)
    else:
        data = made.read_bytes()
        with open(place, "wb") as file:
            file.write(data[: len(data) // 2])
            file.flush()
            time.sleep(0.05)
            file.write(data[len(data) // 2 :])


def watch(root: Path, files: int, seconds: float, kills: int, moments: random.Random) -> list[str]:
    """Lets the files arrive, and returns what was wrong."""
    made, source, out, log = fill(root / "made", files), root / "in", root / "out", root / "log"
    source.mkdir()
    argv = command(source, out, save_model(root / "model.ckpt", 0.02), "--watch")
    due = sorted((moments.uniform(0, seconds), path) for path in made)
    killed_at = sorted(moments.uniform(seconds / 10, seconds) for _ in range(kills))
    process, began = start(argv, log), time.monotonic()
    arrived: dict[str, float] = {}
    delays: dict[str, float] = {}
    while len(delays) < files and time.monotonic() - began < seconds + PATIENCE:
        now = time.monotonic() - began
        while due and due[0][0] <= now:
            path = due.pop(0)[1]
            arrive(path, source, len(arrived) % 3)
            arrived[path.name] = time.monotonic()
        if killed_at and killed_at[0] <= now:
            killed_at.pop(0)
            process.kill()
            process.join()
            process = start(argv, log)
        for name in [name for name in arrived if name not in delays and (out / name).exists()]:
            delays[name] = time.monotonic() - arrived[name]
        time.sleep(0.01)
    return check(process, argv, root, list(delays.values()), files)


def check(process: BaseProcess, argv: list[str], root: Path, delays: list[float], files: int) -> list[str]:
    """Ends the run, prints the delays, and returns what is wrong with what it made."""
    time.sleep(3)  # so that the last file is noted
    assert process.pid is not None
    os.kill(process.pid, signal.SIGINT)
    process.join(PATIENCE)
    wrong = [] if process.exitcode == 0 else [f"it ended with code {process.exitcode}: {(root / 'log').read_text()}"]
    print(f"{len(delays)} of {files} files; delay: median {statistics.median(delays):.1f} s, most {max(delays):.1f} s")
    whole = start([*argv[:2], str(root / "whole"), *argv[3:-1]], root / "log")
    whole.join()
    counts = times_restored(root / "out")
    wrong += flaws(root / "out", outputs(root / "whole"))
    wrong += [f"{name} was not restored" for name in outputs(root / "whole") if counts[name] == 0]
    wrong += [f"{name} was restored {count} times" for name, count in counts.items() if count > 1]
    return wrong + [f"{path} was left behind" for path in find_leftovers(root / "out")]


if __name__ == "__main__":
    main()
