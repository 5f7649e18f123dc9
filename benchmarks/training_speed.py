"""How much of a bare PyTorch loop's speed `img2img fit` reaches for each default network, and where the rest goes.

Runs, in turn and in one process, `img2img fit --config X` and a bare loop on the same task (same network, loss,
optimizer, precision and batch, which is already in memory), each a few times. Prints pixels per second from a given
step to the end, validation excluded; then, from one more run, the shares of the time that waiting for data and the
callbacks take, by Lightning's SimpleProfiler, and the share of the validations in a run of the config's own length.
`--processes` trains with one process, then with two on half the threads each, `--compile` with `torch.compile`.

    python benchmarks/training_speed.py [denoise inpaint …] [--steps 150] [--from-step 50] [--repeats 5] [--compile]
                                        [--processes] [-- any flags of fit]
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import io
import json
import math
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

sys.path.insert(0, str(Path(__file__).parent))  # so that the CLI finds StepClock by its class path

CONFIGS = ("denoise", "inpaint", "colorize", "autoencode", "vae")
"""A config for each default network."""
PARTS = {
    "waiting for data": ("train_dataloader_next",),
    "averaging": ("AveragedWeights",),
    "checkpoints": ("LastCheckpoint", "BestCheckpoint"),
    "logging": ("RunRecord", "LearningRateMonitor", "Throughput", "log_train"),
}
"""What a share is called, and the parts of the profiler's names that it adds up."""


class StepClock(Callback):
    """Notes the time after each training step, the first batch and the time of the validations."""

    latest: StepClock  # of the last run in this process

    def __init__(self) -> None:
        self.times: list[float] = []
        self.batch: dict[str, Any] = {}
        self.validation = 0.0

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Keeps the trainer, from which the bare loop takes the same task and optimizer."""
        self.trainer, StepClock.latest = trainer, self

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Notes the time."""
        self.times.append(time.perf_counter())
        self.batch = self.batch or batch

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Notes when a validation begins."""
        self.validation -= time.perf_counter()

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Adds a validation's time."""
        self.validation += time.perf_counter()


@dataclass(frozen=True)
class Run:
    """What a run of `fit` noted.

    Attributes:
        speed: Pixels per second, validation excluded.
        clock: What was noted, with the trainer.
    """

    speed: float
    clock: Any


def fit(config: str, steps: int, from_step: int, folder: Path, flags: list[str]) -> Run:
    """Runs `img2img fit` on a config; its validations come as often as the config says."""
    from img2img.cli import main

    given = [f"--trainer.max_steps={steps}", "--trainer.enable_progress_bar=false", *flags]
    watched = ['--trainer.callbacks=["training_speed.StepClock"]']
    os.environ.pop("IMG2IMG_RUN", None)  # an earlier run's
    with contextlib.redirect_stdout(io.StringIO()):
        main(["fit", "--config", f"{config}.yaml", *given, *watched, f"--trainer.default_root_dir={folder}/runs"])
    clock = importlib.import_module("training_speed").StepClock.latest  # not this module's, which runs as __main__
    return Run(_speed(clock.times, clock.batch, from_step), clock)


def shares_of(config: str, steps: int, from_step: int, folder: Path, flags: list[str]) -> dict[str, float]:
    """Returns the fractions of the time of training that each of the parts takes, in a run with a profiler."""
    profiler = {"class_path": "SimpleProfiler", "init_args": {"dirpath": str(folder), "filename": "profile"}}
    clock = fit(config, steps, from_step, folder, [*flags, f"--trainer.profiler={json.dumps(profiler)}"]).clock
    training = clock.times[-1] - clock.times[0]
    durations = {name: sum(seconds) for name, seconds in clock.trainer.profiler.recorded_durations.items()}
    return {
        part: sum(seconds for name, seconds in durations.items() if _is_of(name, keys)) / training
        for part, keys in PARTS.items()
    }


def share_of_validation(config: str, run: Run) -> float:
    """Returns the share of the validations in a run as long as the config says."""
    from img2img.training.cli import TRAINER_DEFAULTS
    from img2img.training.preflight import find_config, read_config

    trainer = TRAINER_DEFAULTS | read_config(find_config(f"{config}.yaml"))["trainer"]
    validations = (
        math.ceil(trainer["max_steps"] / trainer["val_check_interval"]) * run.clock.validation
    )  # one at the end
    training = trainer["max_steps"] * _pixels(run.clock.batch) / run.speed
    return float(validations / (validations + training))


def _is_of(name: str, keys: tuple[str, ...]) -> bool:
    """Returns whether a duration belongs to a part of the training steps, not of set-up or validation."""
    in_step = name.endswith(("on_train_batch_start", "on_train_batch_end", "next")) and "val" not in name
    return in_step and any(key in name for key in keys)


def bare(run: Run, steps: int, from_step: int) -> float:
    """Returns the pixels per second of a bare loop on a run's task."""
    trainer = run.clock.trainer
    task, optimizer, batch = trainer.lightning_module.train(), trainer.optimizers[0], run.clock.batch
    task.log_step = lambda values: None  # there is no loop that it could log to
    times = []
    for _ in range(steps):
        with torch.autocast("cpu", torch.bfloat16, enabled=trainer.precision == "bf16-mixed"):
            loss = task.training_step(batch, 1)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        times.append(time.perf_counter())
    return _speed(times, batch, from_step)


def processes(config: str, count: int, steps: int, flags: list[str]) -> float:
    """Returns the pixels per second of `fit` with some processes, which share the threads; the median of its log."""
    threads = str(max(1, torch.get_num_threads() // count))
    with tempfile.TemporaryDirectory() as folder:
        given = [f"--trainer.max_steps={steps}", f"--trainer.val_check_interval={steps}", *flags]
        command = [sys.executable, "-m", "img2img", "fit", "--config", f"{config}.yaml", *given]
        command += [f"--trainer.devices={count}", f"--trainer.default_root_dir={folder}"]
        environment = os.environ | {"OMP_NUM_THREADS": threads}
        subprocess.run(command, check=True, capture_output=True, env=environment)
        events = EventAccumulator(str(next(Path(folder).rglob("events.out*"))))
        events.Reload()
        return float(statistics.median(event.value for event in events.Scalars("train/pixels_per_second")))


def _speed(times: list[float], batch: dict[str, Any], from_step: int) -> float:
    return _pixels(batch) * (len(times) - from_step) / (times[-1] - times[from_step - 1])


def _pixels(batch: dict[str, Any]) -> int:
    count, _, height, width = batch["input"].shape
    return int(count * height * width)


def measure(config: str, options: argparse.Namespace) -> None:
    """Prints the row of a config."""
    length = options.steps, options.from_step
    flags = [f"--trainer.val_check_interval={options.steps}", *options.flags]  # one validation, at the end
    runs, loops = [], []
    for _ in range(options.repeats):
        with tempfile.TemporaryDirectory() as folder:
            runs.append(fit(config, *length, Path(folder), flags))
            loops.append(bare(runs[-1], *length))
    with tempfile.TemporaryDirectory() as folder:
        taken = shares_of(config, *length, Path(folder), flags)
    ratios = [run.speed / loop for run, loop in zip(runs, loops, strict=True)]
    validation = statistics.median(share_of_validation(config, run) for run in runs)
    shares = [f"{100 * share:.1f}" for share in (*taken.values(), validation)]
    own = statistics.median(run.speed for run in runs)
    speeds = f"{statistics.median(loops) / 1e3:.0f} | {own / 1e3:.0f}"
    ratio = f"{statistics.median(ratios):.3f} ({min(ratios):.3f} to {max(ratios):.3f})"
    print(f"| {config} | {speeds} | {ratio} | {' | '.join(shares)} |", flush=True)
    if options.compile:
        with tempfile.TemporaryDirectory() as folder:
            run = fit(config, *length, Path(folder), [*flags, "--model.compile=true"])
        print(f"{config} with torch.compile: {run.speed / 1e3:.0f} kpx/s, {run.speed / own:.2f} times as fast")
    if options.processes:
        one, two = (processes(config, count, options.steps, options.flags) for count in (1, 2))
        print(
            f"{config} with 1 and 2 processes: {one / 1e3:.0f} and {two / 1e3:.0f} kpx/s, {two / one:.2f} times as fast"
        )


def main() -> None:
    """Measures and prints the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("configs", nargs="*", default=CONFIGS, help=f"default: {' '.join(CONFIGS)}")
    parser.add_argument("--steps", type=int, default=150)
    parser.add_argument("--from-step", type=int, default=50)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--compile", action="store_true", help="with torch.compile as well")
    parser.add_argument("--processes", action="store_true", help="with one and two processes as well")
    given = sys.argv[1:]
    split = given.index("--") if "--" in given else len(given)
    options = parser.parse_args(given[:split])
    options.flags = given[split + 1 :]
    print(
        f"{platform.processor() or platform.machine()}, {torch.get_num_threads()} threads, torch {torch.__version__}, "
        f"seed 0, steps {options.from_step} to {options.steps}, medians of {options.repeats} pairs\n"
    )
    print(
        f"| config | bare, kpx/s | fit, kpx/s | ratio | {' | '.join(f'{part}, %' for part in [*PARTS, 'validation'])} |"
    )
    print("|---" * (5 + len(PARTS)) + "|")
    for config in options.configs:
        measure(config, options)


if __name__ == "__main__":
    main()
