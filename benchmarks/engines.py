"""How fast torch and other runtimes run the shipped models on a CPU, how much memory they take, and what they cost.

All ways run in turn in each round, so that a noisy machine is noisy for all; medians. Memory is what the peak of a
process grows by when it runs the loaded model twice on the tile. PSNR is of crops of 500×500 as papers use for Kodak24,
rounded to 8 bits: of noisy ones; of the hole for `inpaint`, without 80 % of the pixels; of the chroma for `colorize`.

    python -m benchmarks.engines kodak24 [--models denoise inpaint …] [--tile 768 1024] [--rounds 7] [--threads 2]
                                         [--images 24] [--sigma 25] [--ways eager mnn]

On a processor with AVX512, this shows what torch does without: ONEDNN_MAX_CPU_ISA=AVX2 ATEN_CPU_CAPABILITY=avx2. Other
runtimes do not know these variables. OpenVINO is here to be compared; `img2img restore` has no engine of that name.
"""

from __future__ import annotations

import argparse
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from albumentations import ToGray
from torch import Tensor

import img2img
from benchmarks import measuring
from img2img.corruptions import GaussianNoise, RandomPixels
from img2img.data.pairs import Transform
from img2img.errors import UserError
from img2img.exporting.core import contract_of
from img2img.exporting.engines import missing
from img2img.exporting.exported_task import open_exported
from img2img.exporting.peak import peak_memory
from img2img.exporting.sessions import ENGINES, package
from img2img.exporting.writing import write_onnx, write_openvino
from img2img.shipped import shipped_models
from img2img.tasks.metrics import PSNR, ChromaPSNR, HolePSNR, Metric, as_8_bit

OF_TORCH = ("eager", "bf16", "compiled")
Way = Callable[[Tensor, Tensor | None], Tensor]
MEASURED: dict[str, tuple[Transform, Metric]] = {
    "inpaint": (RandomPixels(share=0.8), HolePSNR()),
    "colorize": (ToGray(num_output_channels=1, p=1.0), ChromaPSNR()),
}
"""What is wrong with the images of these models, and what is measured; of others it is noise, and PSNR."""


def way(name: str, model: str, folder: Path) -> Way:
    """Returns one way to run a model; exported files lie in `folder`."""
    if name not in OF_TORCH:
        file = folder / f"{model}{'.xml' if name == 'openvino' else '.onnx'}"
        opened = open_exported(file, None if name == "openvino" else name)
        return opened.restore_tile
    task: Any = img2img.load(model)
    if name == "compiled":
        task.network.compile(dynamic=False)  # `inpaint` with free sizes compiles for five minutes
    autocast = name == "bf16"

    def run(image: Tensor, mask: Tensor | None) -> Tensor:
        with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
            restored: Tensor = task.restore_tile(image, mask)
            return restored

    return run


def tile_of(model: str, height: int, width: int) -> tuple[Tensor, Tensor | None]:
    """Returns a random tile for a model, and a mask if it takes one."""
    task: Any = img2img.load(model)
    image = torch.rand(1, task.in_channels, height, width)
    return image, (torch.rand(1, 1, height, width) < 0.5).float() if task.needs_mask else None


def export_all(model: str, folder: Path, ways: list[str]) -> None:
    """Writes a model's files."""
    task = img2img.load(model)
    if set(ways) & set(ENGINES):
        write_onnx(task, contract_of(task, "float32"), folder / f"{model}.onnx", "float32")
    if "openvino" in ways:
        write_openvino(task, contract_of(task, "float32"), folder / f"{model}.xml", "float32")


def peak_of(name: str, model: str, folder: Path, tile: tuple[int, int], threads: int) -> float:
    """Returns how much the peak memory of a process grows in which one way runs on the tile, in GB."""
    words = [sys.executable, "-m", "benchmarks.engines", str(folder), "--peak", name, "--models", model]
    words += ["--tile", *map(str, tile), "--threads", str(threads)]
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    return int(done.stdout.split()[-1]) / 1e9


@torch.inference_mode()
def main() -> None:
    """Measures and prints a table for each model."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--models", nargs="*", default=list(shipped_models()))
    parser.add_argument("--ways", nargs="*", default=["eager", "bf16", "compiled", "onnxruntime", "openvino", "mnn"])
    parser.add_argument("--tile", nargs=2, type=int, default=[768, 1024], metavar=("HEIGHT", "WIDTH"))
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--images", type=int, help="how many, evenly spread (default: all)")
    parser.add_argument("--sigma", type=float, default=25, help="noise, in 8-bit units")
    parser.add_argument("--peak", help=argparse.SUPPRESS)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    tile = (options.tile[0], options.tile[1])
    if options.peak:  # the process that `peak_of` starts
        run, (image, mask) = way(options.peak, options.models[0], options.folder), tile_of(options.models[0], *tile)
        run(image[..., :64, :64], None if mask is None else mask[..., :64, :64])  # compiles, and loads what is late
        before = peak_memory()
        for _ in range(2):
            run(image, mask)
        print(peak_memory() - before)
        return
    with tempfile.TemporaryDirectory() as name:
        for model in options.models:
            compare(model, Path(name), tile, options)
    isa = os.environ.get("ONEDNN_MAX_CPU_ISA", torch.backends.cpu.get_cpu_capability())
    print(f"tile {tile[0]}×{tile[1]}, {options.rounds} rounds, torch restricted to {isa}, {measuring.machine()}")
    print(f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores")


def compare(model: str, folder: Path, tile: tuple[int, int], options: argparse.Namespace) -> None:
    """Measures all ways to run a model, and prints their table."""
    export_all(model, folder, options.ways)
    ways: dict[str, Way] = {}
    given = tile_of(model, *tile)
    for name in options.ways:
        try:
            if name == "openvino":
                package("openvino")
            elif name in ENGINES and missing(name):
                raise UserError(f"{name} is not installed")
            run = way(name, model, folder)
            run(*given)  # warms up, and compiles
            ways[name] = run
        except Exception as error:  # without a C++ compiler torch.compile raises one of many
            print(f"{name} is left out: {str(error).strip().splitlines()[0]}")
    speeds: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(options.rounds):
        for name, run in ways.items():
            began = time.perf_counter()
            run(*given)
            speeds[name].append(tile[0] * tile[1] / 1e6 / (time.perf_counter() - began))
    quality: dict[str, list[tuple[float, float, float]]] = {name: [] for name in ways}
    corruption, metric = MEASURED.get(model, (GaussianNoise(options.sigma), PSNR()))
    for path, clean in measuring.images(options.folder, "kodak", options.images):
        batch = measuring.batch_of(path, clean, [corruption])
        damaged = batch["input"], None if given[1] is None else batch["mask"]
        correct = ways["eager"](*damaged) if "eager" in ways else None
        for name, run in ways.items():
            output = run(*damaged)
            row = measuring.measure(partial(_already, output), batch, (metric,))
            psnr = next(value for key, value in row.items() if key.startswith("psnr"))
            same = 1.0 if correct is None else float((as_8_bit(output) == as_8_bit(correct)).float().mean())
            far = 0.0 if correct is None else float((output - correct).abs().max())
            quality[name].append((psnr, same, far))
    what = "" if model in MEASURED else f", σ {options.sigma:g}"
    print(f"\n{model}{what}, {len(next(iter(quality.values())))} images of {options.folder.name}")
    print("| | MP/s | of eager | memory, GB | PSNR, dB | same 8-bit values | largest difference |")
    print("|---|---|---|---|---|---|---|")
    for name, found in speeds.items():
        mean = [statistics.fmean(column) for column in zip(*quality[name], strict=True)]
        ratios = statistics.median(a / b for a, b in zip(found, speeds[options.ways[0]], strict=True))
        peak = peak_of(name, model, folder, tile, options.threads)
        far = max(row[2] for row in quality[name])
        print(
            f"| {name} | {statistics.median(found):.3f} | {ratios:.2f} | {peak:.2f} | {mean[0]:.4f} | {mean[1]:.3%} | "
            f"{far:.1e} |",
            flush=True,
        )


def _already(output: Tensor, batch: dict[str, Any]) -> Tensor:
    return output


if __name__ == "__main__":
    main()
