"""Kills `img2img restore` (SIGKILL) at random moments and starts it again, until it has been killed 20 times.

    python -m benchmarks.killed [--kills 20] [--seed 0]

A folder of photographs in several formats, cut into tiles, goes through a small network of random weights, which
changes every pixel. One undisturbed run shows what should come out, a second one how long it takes. Then runs are
started and killed at moments drawn uniformly from that time. A killed run is started again with the same command, and
may be killed again, until it finishes; the next run begins in an empty folder. After each kill, every file under a
final name must decode to its end and equal the undisturbed run's file, byte for byte. A finished run must have made the
same files, and nothing else. Prints one row per kill; the exit code is 1 if anything was wrong.
"""

from __future__ import annotations

import argparse
import random
import shutil
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image

from img2img.imaging.parts import find_leftovers
from tests.commands.models import save_model
from tests.commands.processes import flaws, outputs, start

STARTER = Path(__file__).parent.parent / "data" / "starter"
SUFFIXES = (".png", ".jpg", ".tif", ".webp", ".avif", ".bmp")


def main() -> None:
    """Kills runs, and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        wrong = kill(Path(folder), options.kills, random.Random(options.seed))
    print("\n".join(wrong) or "every file under a final name was complete and right after every kill, and at the end")
    sys.exit(bool(wrong))


def kill(root: Path, kills: int, moments: random.Random) -> list[str]:
    """Kills and restarts runs; returns what was wrong."""
    count, model, log = fill(root / "in"), save_model(root / "model.ckpt", 0.02), root / "log"
    out, whole = root / "out", root / "undisturbed"

    def run(output: Path, seconds: float | None = None) -> int | None:
        process = start(command(root / "in", output, model), log)
        process.join(seconds)
        process.kill()
        process.join()
        return process.exitcode

    for _ in range(2):  # the first run also waits for the imports, which are cached afterwards
        shutil.rmtree(whole, ignore_errors=True)
        began = time.monotonic()
        if run(whole) != 0:
            raise RuntimeError(log.read_text())
        length = time.monotonic() - began
    undisturbed, wrong, done, ended = outputs(whole), [], 0, 0
    print(f"{count} files, undisturbed {length:.2f} s\n kill  after s  files there  under construction  result")
    while done < kills or out.exists():
        after = moments.uniform(0, length) if done < kills else None
        code = run(out, after)
        found = flaws(out, undisturbed)
        if code == 0:
            ended += 1
            found += [] if outputs(out) == undisturbed and not find_leftovers(out) else ["it ended differently"]
            shutil.rmtree(out)
        elif code == -9:
            done += 1
            parts = len(find_leftovers(out)) if out.exists() else 0
            files = len(outputs(out)) if out.exists() else 0
            print(f"{done:5}  {after:7.2f}  {files:5} of {count}  {parts:18}  {'; '.join(found) or 'right'}")
        else:
            found.append(f"exit code {code}: {log.read_text()[-500:]}")
            shutil.rmtree(out, ignore_errors=True)
        wrong += found
    print(f"killed {done} times; {ended} runs finished, and were compared file by file with the undisturbed one")
    return wrong


def command(source: Path, output: Path, model: Path) -> list[str]:
    """Returns the arguments of a run, the same each time."""
    quiet = ["--accelerator=cpu", "--precision=32-true", "--tile=128", "--memory=2GB"]
    return ["restore", str(source), str(output), f"--model={model}", *quiet]


def fill(folder: Path) -> int:
    """Makes the folder of photographs and returns how many there are."""
    photos = sorted((STARTER / "val").glob("*.png"))
    count = 0
    for number, photo in enumerate(photos):
        pixels = np.array(Image.open(photo).convert("RGB"))
        for suffix in SUFFIXES:
            place = folder / f"{number % 3}" / f"{photo.stem}{suffix}"
            place.parent.mkdir(parents=True, exist_ok=True)
            side = 320 if suffix == ".png" else 120 + 20 * number
            Image.fromarray(pixels[:side, :240]).save(place)
            count += 1
    return count


if __name__ == "__main__":
    main()
