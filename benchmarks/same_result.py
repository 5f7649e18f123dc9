"""Whether a run depends on how it is run: processes, accumulation, workers.

    python benchmarks/same_result.py [--config denoise.yaml] [--steps 8] [--seed 0]

Trains a small network of the config on the starter photographs with 16 samples a step, in several arrangements, each
as a program of its own (CPU; several processes talk over gloo). Prints the largest difference of any final weight, of
the latest weights and of their average, against one process with a batch of 16. In float64, arrangements may differ by
the rounding of sums alone; another seed is the control. In float32, more workers must change no bit. Where a loss is
not the mean of its samples' losses, accumulated batches are a way of training of their own, and nothing is asked of
them. The exit code is 1 if something differs that should not, or if the control does not.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import torch

TOLERANCE = 1e-9
"""Largest difference of weights in float64: rounding, where another seed differs by 1e-3 and more."""
CONTROL = 1e-5
"""Smallest difference that another seed makes."""
BATCH = 16
IMAGES = ("denoise.yaml", "colorize.yaml", "inpaint.yaml", "denoise_uncertain.yaml")
"""Configs whose networks take any size; the others are autoencoders."""
OF_WHOLE_BATCHES = ("vae.yaml",)
"""Configs whose loss is not the mean of its samples' losses."""
ACCUMULATE = "--trainer.accumulate_grad_batches="

Weights = dict[str, torch.Tensor]


def main() -> None:
    """Trains in each arrangement, and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", default="denoise.yaml")
    parser.add_argument("--steps", type=int, default=8)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        sys.exit(compare(Path(folder), options.config, options.steps, options.seed))


def compare(folder: Path, config: str, steps: int, seed: int) -> bool:
    """Prints the table; returns whether anything was wrong."""
    exact, single = ["--trainer.precision=64-true"], ["--trainer.precision=32-true"]
    runs = {
        "2 processes × 8": (exact + processes(2), TOLERANCE),
        "4 processes × 4": (exact + processes(4), TOLERANCE),
        "4 × 4 accumulated": ([*exact, ACCUMULATE + "4", "--data.batch_size=4"], TOLERANCE),
        "2 processes × 4, 2 accumulated": (
            [*exact, *processes(2), ACCUMULATE + "2", "--data.batch_size=4"],
            TOLERANCE,
        ),
        "1 worker": ([*exact, "--data.num_workers=1"], 0.0),
        "2 workers": ([*exact, "--data.num_workers=2"], 0.0),
        "2 processes × 8, 1 worker each": ([*exact, *processes(2), "--data.num_workers=1"], TOLERANCE),
        "another seed (control)": ([*exact, f"--seed_everything={seed + 1}"], None),
        "float32, 1 worker": ([*single, "--data.num_workers=1"], 0.0),
        "float32, 2 workers": ([*single, "--data.num_workers=2"], 0.0),
    }
    first = {
        kind: train(folder / kind, config, steps, seed, [f"--trainer.precision={kind}"])
        for kind in ("64-true", "32-true")
    }
    print(f"{config}, {steps} steps of {BATCH} samples, seed {seed}, against 1 process × {BATCH}, 0 workers")
    print(f"{'':32}{'weights':>10}{'average':>10}  allowed")
    wrong = False
    for number, (name, (flags, allowed)) in enumerate(runs.items()):
        own = train(folder / str(number), config, steps, seed, flags)
        base = first["32-true" if flags[0] in single else "64-true"]
        found = [difference(a, b) for a, b in zip(own, base, strict=True)]
        bad = min(found) < CONTROL if allowed is None else not max(found) <= allowed
        limit = f"≥ {CONTROL:g}" if allowed is None else f"≤ {allowed:g}" if allowed else "0"
        if config in OF_WHOLE_BATCHES and any(flag.startswith(ACCUMULATE) for flag in flags):
            bad, limit = False, "its own"
        print(f"{name:32}{found[0]:10.1e}{found[1]:10.1e}  {limit}{'  WRONG' if bad else ''}", flush=True)
        wrong |= bad
    return wrong


def processes(count: int) -> list[str]:
    """Returns the flags for several processes on one machine that share the batch."""
    return ["--trainer.strategy=ddp", f"--trainer.devices={count}", f"--data.batch_size={BATCH // count}"]


def train(folder: Path, config: str, steps: int, seed: int, flags: list[str]) -> tuple[Weights, Weights]:
    """Trains a small network; returns its latest weights and their average."""
    folder.mkdir()
    small = ["--data.crop_size=32", "--data.val_images=1", "--model.network.init_args.channels=[8,16]"]
    if config not in IMAGES:
        small = ["--data.image_size=[32,32]", "--model.network.init_args.image_size=[32,32]"]
        small += ["--model.network.init_args.channels=[8,16]"]
    quiet = ["--trainer.accelerator=cpu", "--trainer.enable_progress_bar=false", "--trainer.logger=false"]
    length = [f"--trainer.max_steps={steps}", f"--data.batch_size={BATCH}", "--data.num_workers=0"]
    command = [sys.executable, "-m", "img2img", "fit", "--config", config, f"--seed_everything={seed}"]
    command += [*small, *quiet, *length, *flags]
    done = subprocess.run(
        command,
        cwd=folder,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    if done.returncode:
        raise RuntimeError(done.stdout[-2000:])
    name = Path(config).stem
    checkpoint = torch.load(folder / "runs" / name / "0" / "last.ckpt", weights_only=True)
    return checkpoint["current_model_state"], checkpoint["state_dict"]


def difference(a: Weights, b: Weights) -> float:
    """Returns the largest difference of any weight; counts of batches, which are whole numbers, are none."""
    weights = [name for name, value in a.items() if value.is_floating_point()]
    return max(float((a[name].double() - b[name].double()).abs().max()) for name in weights)


if __name__ == "__main__":
    main()
