"""How much of a bare PyTorch loop's speed `img2img fit` reaches, data preparation included.

Runs, in turn and in one process, the bare loop (same network, loss, optimizer, precision and batch size, with its one
batch already in memory) and `img2img fit --config denoise.yaml`, each a few times, and prints pixels per second from a
given step to the end; validation is excluded.

    python benchmarks/training_speed.py [--steps 150] [--from-step 50] [--repeats 2] [--compile] [-- any flags of fit]
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer

sys.path.insert(0, str(Path(__file__).parent))  # so that the CLI finds StepClock by its class path


class StepClock(Callback):
    """Notes the time after each training step, the shape of the batches and the precision, as JSON."""

    def __init__(self, file: str) -> None:
        self.file = file
        self.times: list[float] = []

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Notes the time; writes everything after the last step, before the final validation."""
        self.times.append(time.perf_counter())
        if trainer.global_step == trainer.max_steps:
            shape = list(batch["input"].shape)
            Path(self.file).write_text(
                json.dumps({"times": self.times, "shape": shape, "precision": trainer.precision})
            )


def fit_speed(steps: int, from_step: int, flags: list[str]) -> tuple[float, list[int], str]:
    """Returns the pixels per second of `img2img fit`, the shape of its batches and its precision."""
    from img2img.cli import main

    with tempfile.TemporaryDirectory() as folder:
        clock = [{"class_path": "training_speed.StepClock", "init_args": {"file": f"{folder}/clock.json"}}]
        os.environ.pop("IMG2IMG_RUN", None)
        length = [f"--trainer.max_steps={steps}", f"--trainer.val_check_interval={steps}"]
        place = [f"--trainer.default_root_dir={folder}/runs", f"--trainer.callbacks={json.dumps(clock)}"]
        main(["fit", "--config", "denoise.yaml", *length, *place, *flags])
        noted = json.loads(Path(folder, "clock.json").read_text())
    return _speed(noted["times"], noted["shape"], from_step), noted["shape"], noted["precision"]


def bare_speed(
    steps: int, from_step: int, shape: list[int], precision: str, compiled: bool = False
) -> tuple[float, float]:
    """Returns the pixels per second of a bare loop on the same network, and the seconds of its first step."""
    from img2img.networks import RestorationUNet
    from img2img.tasks import Charbonnier, MuonAdamW

    torch.manual_seed(0)
    network: torch.nn.Module = RestorationUNet().to(memory_format=torch.channels_last)
    loss = Charbonnier()
    optimizer = MuonAdamW(network.parameters())
    began = time.perf_counter()
    if compiled:
        network = torch.compile(network)  # type: ignore[assignment]
    target = torch.rand(shape).to(memory_format=torch.channels_last)
    noisy = target + 0.1 * torch.randn_like(target)
    times = []
    for _ in range(steps):
        with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16-mixed"):
            value = loss(network(noisy), target)
        optimizer.zero_grad()
        value.backward()
        optimizer.step()
        times.append(time.perf_counter())
    return _speed(times, shape, from_step), times[0] - began


def _speed(times: list[float], shape: list[int], from_step: int) -> float:
    count, _, height, width = shape
    return count * height * width * (len(times) - from_step) / (times[-1] - times[from_step - 1])


def main() -> None:
    """Measures and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--steps", type=int, default=150)
    parser.add_argument("--from-step", type=int, default=50)
    parser.add_argument("--repeats", type=int, default=2)
    parser.add_argument("--compile", action="store_true", help="the bare loop with torch.compile as well")
    parser.add_argument("flags", nargs="*", help="flags of `img2img fit`, after --")
    options = parser.parse_args()
    fitted, bare = [], []
    for _ in range(options.repeats):
        speed, shape, precision = fit_speed(options.steps, options.from_step, options.flags)
        fitted.append(speed)
        bare.append(bare_speed(options.steps, options.from_step, shape, precision)[0])
    print(
        f"\n{platform.processor() or platform.machine()}, {torch.get_num_threads()} threads, torch {torch.__version__}"
    )
    print(f"batches {shape}, {precision}, steps {options.from_step} to {options.steps}, seed 0\n")
    print("| loop | kpx/s, each run |")
    print("|---|---|")
    print(f"| bare PyTorch, data in memory | {', '.join(f'{s / 1e3:.1f}' for s in bare)} |")
    print(f"| `img2img fit` | {', '.join(f'{s / 1e3:.1f}' for s in fitted)} |")
    ratios = [a / b for a, b in zip(fitted, bare, strict=True)]
    if options.compile:
        speed, start = bare_speed(options.steps, options.from_step, shape, precision, compiled=True)
        print(f"| bare PyTorch, torch.compile | {speed / 1e3:.1f} ({start:.0f} s for the first step) |")
    print(f"\nratio, each pair: {', '.join(f'{r:.3f}' for r in ratios)}; median {statistics.median(ratios):.3f}")


if __name__ == "__main__":
    main()
