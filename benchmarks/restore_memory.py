"""Whether the memory of `img2img restore` depends on the size of the image.

    python benchmarks/restore_memory.py CHECKPOINT [--sizes 12000x9000 24000x18000] [--photo PHOTO] [--memory 2GB]

Makes a 16-bit TIFF of each size from an enlarged photograph with noise, restores each in a separate process, and prints
that process's peak resident memory (what `/usr/bin/time -v` shows) and its time.
"""

from __future__ import annotations

import argparse
import os
import platform
import sys
import tempfile
import time
from pathlib import Path

import pyvips

from img2img.shipped import shipped_folder


def make(path: Path, photo: Path, width: int, height: int) -> None:
    """Writes a 16-bit TIFF that is hard to compress."""
    source = pyvips.Image.new_from_file(str(photo))
    enlarged = source.resize(width / source.width, vscale=height / source.height).cast("ushort") * 257
    noisy = enlarged + pyvips.Image.gaussnoise(width, height, sigma=2000, mean=0)
    path.parent.mkdir(parents=True)
    noisy.cast("ushort").copy(interpretation="rgb16").tiffsave(
        str(path), compression="deflate", predictor="horizontal", level=1, bigtiff=True
    )


def run(arguments: list[str]) -> tuple[float, float]:
    """Runs the program in a separate process; returns its peak memory in GB and its seconds.

    Raises:
        SystemExit: If the program fails.
    """
    began = time.monotonic()
    process = os.posix_spawn(sys.executable, [sys.executable, "-m", "img2img", *arguments], dict(os.environ))
    _, status, usage = os.wait4(process, 0)
    if status:
        sys.exit(f"img2img {' '.join(arguments)} failed")
    return usage.ru_maxrss * 1024 / 1e9, time.monotonic() - began  # Linux counts in kilobytes


def main() -> None:
    """Makes the images, restores them and prints the table."""
    starter = shipped_folder("starter")
    assert starter is not None
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("checkpoint")
    parser.add_argument("--sizes", nargs="+", default=["12000x9000", "24000x18000"])
    parser.add_argument("--photo", type=Path, default=starter / "val" / "wine-1.png")
    parser.add_argument("--memory", default=None)
    options = parser.parse_args()
    memory = [] if options.memory is None else ["--memory", options.memory]
    lines = []
    for size in options.sizes:
        width, height = (int(side) for side in size.split("x"))
        with tempfile.TemporaryDirectory(dir=".") as name:
            make(Path(name, "in", "large.tif"), options.photo, width, height)
            peak, seconds = run(
                ["restore", f"{name}/in", f"{name}/out", "--model", options.checkpoint, "--accelerator", "cpu", *memory]
            )
        lines.append(f"{size}: peak {peak:.2f} GB, {seconds:.0f} s, {width * height / 1e6 / seconds:.3f} MP/s")
        print(lines[-1], flush=True)
    print(f"memory {options.memory or 'default'}, {os.cpu_count()} cores of {platform.machine()}")


if __name__ == "__main__":
    main()
