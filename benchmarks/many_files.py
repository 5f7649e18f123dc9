"""Measures training on a folder of very many small files: seconds to list it, memory of a worker, samples a second.

    python benchmarks/many_files.py --files 1000000

The files are hard links to a few tiny PNGs, in folders of a thousand, in a temporary folder that is deleted at the end.
Nothing is decoded before training; the cache is a temporary one. A worker's memory is what it does not share with other
processes (USS), beside that of a worker on a folder of a thousand files, which are decoded before; "all" is what the
main process and its workers take together (PSS).
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import psutil
from PIL import Image

SIDE, IN_A_FOLDER, ORIGINALS, BATCH = 32, 1000, 64, 64


def make(folder: Path, files: int) -> None:
    """Links `files` PNGs of noise; ext4 allows 65,000 links to a file, so there are enough originals."""
    originals = [folder.parent / f"original{number}.png" for number in range(ORIGINALS)]
    for number, path in enumerate(originals):
        pixels = np.random.default_rng(number).integers(0, 256, (SIDE, SIDE, 3), np.uint8)
        Image.fromarray(pixels).save(path)
    for number in range(files):
        below = folder / f"{number // IN_A_FOLDER:05d}"
        if number % IN_A_FOLDER == 0:
            below.mkdir(parents=True)
        os.link(originals[number % ORIGINALS], below / f"{number:08d}.png")


def timed(function: Callable[[], object]) -> float:
    """Returns the seconds that a call takes."""
    begin = time.perf_counter()
    function()
    return time.perf_counter() - begin


def measure(folder: Path, workers: int, batches: int) -> None:
    """Prints what one run on a folder takes: to find its images, and then to draw samples."""
    from torch.utils.data import DataLoader

    from img2img.data import CorruptedPairs
    from img2img.data.listing import images_of
    from img2img.data.pairs import collate

    print(f"list {timed(lambda: images_of(folder)):.2f}")
    data = CorruptedPairs(str(folder), crop_size=SIDE, batch_size=BATCH, samples_per_epoch=BATCH * batches)
    print(f"ready {timed(lambda: (data.prepare_data(), data.setup('fit'))):.2f}")
    process, pairs = psutil.Process(), data.training_pairs()
    loader = DataLoader(
        pairs, BATCH, sampler=range(BATCH * batches), num_workers=workers, collate_fn=collate, persistent_workers=True
    )
    begin = 0.0
    for number, _ in enumerate(loader):
        if number == 9:  # the workers have started and drawn the order of the first pass
            begin = time.perf_counter()
    print(f"rate {BATCH * (batches - 10) / (time.perf_counter() - begin):.0f}")
    memory = [one.memory_full_info() for one in (process, *process.children())]
    print(f"worker {sum(one.uss for one in memory[1:]) / workers / 1e6:.1f}")
    print(f"all {sum(one.pss for one in memory) / 1e6:.1f}")


def run(folder: Path, workers: int, batches: int) -> dict[str, float]:
    """Measures in a new process, and returns its figures."""
    command = [sys.executable, __file__, "--measure", str(folder), "--workers", str(workers), "--batches", str(batches)]
    lines = subprocess.run(command, check=True, capture_output=True, text=True).stdout.split("\n")
    return {name: float(value) for name, _, value in (line.partition(" ") for line in lines if line)}


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--files", type=int, default=1_000_000)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--batches", type=int, default=200)
    parser.add_argument("--place", help="where the files are made (default: the system's temporary folder)")
    parser.add_argument("--measure", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure:
        measure(Path(options.measure), options.workers, options.batches)
        return
    with tempfile.TemporaryDirectory(dir=options.place) as place:
        os.environ["IMG2IMG_CACHE"] = str(Path(place) / "cache")
        few, many = Path(place) / "few", Path(place) / "files" / "many"
        few.mkdir(), many.parent.mkdir()
        make(few / "few", 1000)
        print(f"made {options.files:,} files in {timed(lambda: make(many, options.files)):.0f} s", flush=True)
        time.sleep(3)  # a folder that changed within two seconds is listed again
        runs = {
            "1,000 files": run(few, options.workers, options.batches),
            f"{options.files:,} files, first run": run(many, options.workers, options.batches),
            f"{options.files:,} files, again": run(many, options.workers, options.batches),
        }
        print(f"{'':<30}{'list s':>9}{'ready s':>9}{'worker MB':>11}{'all MB':>9}{'samples/s':>11}")
        for name, got in runs.items():
            print(
                f"{name:<30}{got['list']:>9.2f}{got['ready']:>9.2f}{got['worker']:>11.1f}{got['all']:>9.1f}"
                f"{got['rate']:>11.0f}"
            )


if __name__ == "__main__":
    main()
