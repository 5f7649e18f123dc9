"""How far exported files are from torch: the network of every shipped config, as ONNX, torch.export and OpenVINO.

Each is compared on 20 images of random sizes, whole and in tiles; weights are random, also where training would begin
with zeros, which would hide differences.

    python -m benchmarks.export_parity [--configs denoise inpaint] [--formats onnx pt2 xml] [--precision float32]
"""

from __future__ import annotations

import argparse
import platform
import tempfile
import time
from pathlib import Path

import torch

from img2img.errors import UserError
from img2img.exporting.export import SUFFIXES, export
from img2img.shipped import shipped_configs
from img2img.tasks import Task
from img2img.training.from_config import task_and_data


def task_of(config: Path) -> Task:
    """Returns a config's task with random weights that are nowhere zero."""
    torch.manual_seed(0)
    task, _ = task_and_data(config, [])
    with torch.no_grad():
        for weights in task.network.parameters():
            if not weights.any():
                weights.normal_(0, 0.02)
    return task.eval()


def main() -> None:
    """Exports, compares and prints the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--configs", nargs="*", help="names (default: all)")
    parser.add_argument("--formats", nargs="*", default=[suffix[1:] for suffix in SUFFIXES])
    parser.add_argument("--precision", choices=["float32", "float16"], default="float32")
    options = parser.parse_args()
    configs = [path for path in shipped_configs() if not options.configs or path.stem in options.configs]
    print("| config | network | format | whole | in tiles | bytes/pixel | MB | s |\n|---|---|---|---|---|---|---|---|")
    refused = []
    for config in configs:
        task = task_of(config)
        for format in options.formats:
            began = time.perf_counter()
            row = f"| {config.stem} | {type(task.network).__name__} | {format} |"
            with tempfile.TemporaryDirectory() as folder:
                try:
                    done = export(task, Path(folder) / f"{config.stem}.{format}", options.precision)
                except UserError as error:
                    refused.append(f"{config.stem}, {format}: {str(error).replace(folder, '…')}")
                    print(f"{row} – | – | – | – | {time.perf_counter() - began:.0f} |", flush=True)
                    continue
            tiled = (
                "one size" if done.contract.size else "–" if done.parity.tiled is None else f"{done.parity.tiled:.1e}"
            )
            memory = "–" if done.contract.size else f"{done.contract.bytes_per_pixel:.0f}"
            seconds = time.perf_counter() - began
            print(
                f"{row} {done.parity.whole:.1e} | {tiled} | {memory} | {done.size / 1e6:.1f} | {seconds:.0f} |",
                flush=True,
            )
    print("\nlargest difference of a value in [0, 1] on 20 images of random sizes")
    print("\n".join(refused or ["every network can be exported"]))
    print(f"{options.precision}, torch {torch.__version__}, {platform.machine()}")


if __name__ == "__main__":
    main()
