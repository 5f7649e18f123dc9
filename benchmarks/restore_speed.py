"""How fast `img2img restore` is, compared with the bare network and with a hand-written loop.

    python benchmarks/restore_speed.py FOLDER CHECKPOINT [--engine mnn] [--images 12] [--repeats 3]

In each repeat, one after the other, so that a noisy machine is noisy for all:

- bare: the network alone, by torch or by the engine, on random tensors of the images' sizes, no reading and no writing
- restore: `img2img restore` as a user runs it, files in and files out; its start-up is not counted
- by hand: read with OpenCV, overlapping tiles of 512 pixels, write with OpenCV

Prints megapixels per second of each, and the ratios of each repeat.
"""

from __future__ import annotations

import argparse
import json
import platform
import shutil
import statistics
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import cv2
import numpy as np
import torch

import img2img
from img2img.exporting.engines import on_engine
from img2img.tasks import Restoration

TILE, OVERLAP = 512, 32


def bare(task: Restoration, sizes: Sequence[tuple[int, int]]) -> float:
    """Returns the network's megapixels per second on images of these heights and widths."""
    began = time.perf_counter()
    for height, width in sizes:
        with torch.inference_mode():
            task(torch.rand(1, 3, height, width))
    return sum(h * w for h, w in sizes) / 1e6 / (time.perf_counter() - began)


def restore(folder: Path, checkpoint: str, engine: Literal["onnxruntime", "mnn"] | None) -> float:
    """Returns the megapixels per second that the report of a run says."""
    with tempfile.TemporaryDirectory() as output:
        img2img.restore(folder, output, model=checkpoint, engine=engine, accelerator="cpu", precision="32-true")
        report = json.loads((Path(output) / "restore_report.json").read_text())
    assert not report["failed"]
    return float(report["megapixels_per_second"])


def by_hand(task: Restoration, files: Sequence[Path]) -> float:
    """Returns the megapixels per second of the hand-written loop."""
    pixels, began = 0, time.perf_counter()
    with tempfile.TemporaryDirectory() as output:
        for path in files:
            image = cv2.imread(str(path))
            assert image is not None
            height, width = image.shape[:2]
            tensor = torch.from_numpy(image[..., ::-1].copy()).permute(2, 0, 1)[None].float() / 255
            result = torch.empty_like(tensor)
            for top in range(0, height, TILE - 2 * OVERLAP):
                for left in range(0, width, TILE - 2 * OVERLAP):
                    y, x = max(0, top - OVERLAP), max(0, left - OVERLAP)
                    with torch.inference_mode():
                        tile = task(tensor[..., y : top + TILE - OVERLAP, x : left + TILE - OVERLAP])
                    kept = tile[..., top - y : top - y + TILE - 2 * OVERLAP, left - x : left - x + TILE - 2 * OVERLAP]
                    result[..., top : top + kept.shape[2], left : left + kept.shape[3]] = kept
            restored = (result[0].permute(1, 2, 0).numpy() * 255).round().astype(np.uint8)
            cv2.imwrite(str(Path(output) / path.name), restored[..., ::-1])
            pixels += height * width
    return pixels / 1e6 / (time.perf_counter() - began)


def main() -> None:
    """Measures and prints the figures."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("checkpoint", help="a file, or the name of a shipped model")
    parser.add_argument("--engine", choices=("onnxruntime", "mnn"), help="in place of torch")
    parser.add_argument("--images", type=int, default=12, help="how many of the folder's files")
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    files = sorted(path for path in options.folder.iterdir() if path.suffix.lower() in (".jpg", ".png"))
    files = files[: options.images]
    task = img2img.load(options.checkpoint)
    assert isinstance(task, Restoration)
    task = on_engine(task, options.engine)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for path in files:
            shutil.copy(path, folder / path.name)
        sizes = [cv2.imread(str(path)).shape[:2] for path in files]  # type: ignore[union-attr]
        bare(task, sizes[:1])  # the first call of a process compiles kernels
        ratios: dict[str, list[float]] = {"restore": [], "by hand": []}
        for _ in range(options.repeats):
            speeds = {"bare": bare(task, sizes), "restore": restore(folder, options.checkpoint, options.engine)}
            speeds["by hand"] = by_hand(task, files)
            for way, values in ratios.items():
                values.append(speeds[way] / speeds["bare"])
            print("  ".join(f"{way} {speed:.3f} MP/s" for way, speed in speeds.items()), flush=True)
    megapixels = sum(h * w for h, w in sizes) / 1e6
    print(f"{len(files)} images, {megapixels:.0f} MP; fraction of the bare network, each repeat and the median:")
    for way, values in ratios.items():
        print(f"  {way:8} {', '.join(f'{v:.3f}' for v in values)}; {statistics.median(values):.3f}")
    machine = f"{torch.get_num_threads()} threads of {platform.machine()}, torch {torch.__version__}"
    print(f"{options.engine or 'torch'}, float32, {machine}")


if __name__ == "__main__":
    main()
