"""How fast large photographs are scored whole beside the bare network, and how much memory that takes.

Trains `anomaly.yaml` for one step, which makes a model that can score; its weights do not matter here. Then, in turn, a
few times: the bare network on tiles that cover as many pixels, and `img2img score` of a photograph of each size, in a
process of its own, whose peak memory is printed. The time of a process that scores a tiny image is subtracted: it is
the program's start.

    python -m benchmarks.scoring_speed [--sizes 2000x1500 4000x3000] [--tile 512] [--repeats 3]
                                       [--flag=--model.mirrored=false]
"""

from __future__ import annotations

import argparse
import statistics
import time
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from PIL import Image

import img2img
from benchmarks.autoencoders import fit, machine
from benchmarks.restore_memory import run
from img2img.shipped import shipped_folder
from img2img.tasks import AnomalySegmentation


def scored(model: Path, photo: Path, width: int, height: int) -> tuple[float, float]:
    """Scores an enlarged photograph; returns the process's peak memory in GB and its seconds."""
    with TemporaryDirectory() as folder:
        path = Path(folder) / "in" / "large.png"
        path.parent.mkdir()
        Image.open(photo).convert("L").resize((width, height)).save(path)
        return run(["score", str(path.parent), f"{folder}/scores.csv", f"--model={model}", "--accelerator=cpu"])


@torch.inference_mode()
def bare(task: AnomalySegmentation, tile: int, megapixels: float) -> float:
    """Returns the megapixels per second of the network on tiles that cover so many megapixels."""
    image = torch.rand(1, task.in_channels, tile, tile)
    count = max(1, round(megapixels * 1e6 / tile**2))
    task.segment(image)
    begun = time.perf_counter()
    for _ in range(count):
        task.segment(image)
    return count * tile**2 / 1e6 / (time.perf_counter() - begun)


def main() -> None:
    """Measures and prints the table."""
    starter = shipped_folder("starter")
    assert starter is not None
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--sizes", nargs="+", default=["2000x1500", "4000x3000"], help="width × height")
    parser.add_argument("--tile", type=int, default=512, help="side of the bare network's tiles")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--photo", type=Path, default=starter / "val" / "wine-1.png")
    parser.add_argument("--flag", action="append", default=[], help="of img2img fit")
    options = parser.parse_args()
    with TemporaryDirectory() as folder:
        model = fit("anomaly.yaml", starter, 1, 0, Path(folder), options.flag) / "last.ckpt"
        task = img2img.load(model).eval()
        assert isinstance(task, AnomalySegmentation)
        print("| | bare network, MP/s | score, MP/s | of the network | peak memory, GB |\n|---|---|---|---|---|")
        for size in options.sizes:
            width, height = (int(side) for side in size.split("x"))
            megapixels = width * height / 1e6
            alone, speeds, peaks = [], [], []
            for _ in range(options.repeats):
                alone.append(bare(task, options.tile, megapixels))
                _, start = scored(model, options.photo, 64, 64)
                peak, seconds = scored(model, options.photo, width, height)
                speeds.append(megapixels / (seconds - start))
                peaks.append(peak)
            share = statistics.median(own / net for own, net in zip(speeds, alone, strict=True))
            medians = f"{statistics.median(alone):.2f} | {statistics.median(speeds):.2f}"
            print(f"| {size} | {medians} | {share:.2f} | {max(peaks):.2f} |", flush=True)
    print(f"medians of {options.repeats}; {machine()}")


if __name__ == "__main__":
    main()
