"""Muon against AdamW in every shipped config, after equal wall time on the starter set.

Each config is trained twice at the same time, in separate processes with half of the cores each, so that both are
disturbed alike: with AdamW at the config's learning rate, and with MuonAdamW at its defaults. Learning rates decay over
the training time. The table shows the metric of the config's captions on the validation images. Autoencoders need more
images than the starter set has: they are left out without a folder of faces.

    python benchmarks/optimizers.py [--minutes 2] [--runs runs/optimizers] [--only inpaint vae …] [--faces smiles]
"""

from __future__ import annotations

import argparse
import os
import platform
import shutil
import subprocess
import sys
from pathlib import Path

import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

METRICS = {  # config: the metric of its captions, and whether higher is better
    "denoise": ("psnr", True),
    "denoise_gray": ("psnr", True),
    "denoise_camera": ("psnr", True),
    "denoise_uncertain": ("psnr", True),
    "denoise_bottleneck": ("psnr", True),
    "denoise_without_clean": ("psnr", True),
    "inpaint": ("psnr_hole", True),
    "colorize": ("delta_e", False),
    "restore_old_photo": ("psnr", True),
    "pairs": ("psnr", True),
    "autoencode": ("mse", False),
    "anomaly": ("pixel_ap", True),
    "anomaly_autoencoder": ("mse", False),
    "vae": ("bits_per_dim", False),
}
OF_FACES = ("autoencode", "anomaly_autoencoder", "vae")
OPTIMIZERS = {
    "AdamW": ["--model.optimizer=null"],
    "Muon": ["--model.optimizer=MuonAdamW", "--model.lr=null"],
}


def finished(run: Path, metric: str) -> bool:
    """Returns whether a run has reached its final validation."""
    if not run.exists():
        return False
    events = EventAccumulator(str(run))
    events.Reload()
    return f"val/{metric}" in events.Tags()["scalars"]


def train(config: str, options: argparse.Namespace) -> None:
    """Trains a config with each optimizer at the same time, unless both runs are there.

    Raises:
        subprocess.CalledProcessError: If a run fails.
    """
    if all(finished(options.runs / optimizer / config / "0", METRICS[config][0]) for optimizer in OPTIMIZERS):
        return
    minutes = f"--trainer.max_time=00:00:{options.minutes:02}:00"
    common = ["--trainer.max_steps=-1", "--trainer.max_epochs=-1", minutes, "--trainer.enable_progress_bar=false"]
    common += ["--trainer.val_check_interval=1000000", "--trainer.log_every_n_steps=50"]
    common += ["--data.samples_per_epoch=100000", *([f"--data.root={options.faces}"] if config in OF_FACES else [])]
    cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else list(range(os.cpu_count() or 1))
    half = max(1, len(cores) // 2)
    processes = []
    for number, (optimizer, flags) in enumerate(OPTIMIZERS.items()):
        runs = options.runs / optimizer
        shutil.rmtree(runs / config, ignore_errors=True)  # a killed run would have trained for another time
        command = [sys.executable, "-m", "img2img", "fit", "--config", f"{config}.yaml"]
        command += [*common, *flags, f"--trainer.default_root_dir={runs}", *options.flags]
        own = cores[number * half : (number + 1) * half] or cores
        pin = ["taskset", "-c", ",".join(map(str, own))] if shutil.which("taskset") else []
        environment = os.environ | {"OMP_NUM_THREADS": str(half)}
        processes.append(subprocess.Popen([*pin, *command], env=environment))
    for process in processes:
        if process.wait():
            raise subprocess.CalledProcessError(process.returncode, process.args)


def reached(config: str, optimizer: str, options: argparse.Namespace) -> tuple[float, int]:
    """Returns the final validation of a run, and its steps."""
    events = EventAccumulator(str(options.runs / optimizer / config / "0"))
    events.Reload()
    last = events.Scalars(f"val/{METRICS[config][0]}")[-1]
    return last.value, last.step


def main() -> None:
    """Trains what is missing, and prints the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--minutes", type=int, default=2)
    parser.add_argument("--runs", type=Path, default=Path("runs/optimizers"))
    parser.add_argument("--only", nargs="+", choices=METRICS, default=list(METRICS))
    parser.add_argument("--faces", type=Path, help="folder of faces, for autoencoders")
    parser.add_argument("flags", nargs="*", help="flags of `img2img fit`, after --")
    options = parser.parse_args()
    print("| config | figure | AdamW | Muon | steps | better |\n|---|---|---|---|---|---|")
    for config in options.only:
        if config in OF_FACES and options.faces is None:
            continue
        train(config, options)
        name, more = METRICS[config]
        (adamw, adamw_steps), (muon, muon_steps) = (reached(config, optimizer, options) for optimizer in OPTIMIZERS)
        better = "Muon" if (muon > adamw) == more else "AdamW"
        print(f"| {config} | {name} | {adamw:.4g} | {muon:.4g} | {adamw_steps}, {muon_steps} | {better} |", flush=True)
    print(
        f"\nseed 0, {options.minutes} minutes each, {max(1, torch.get_num_threads() // 2)} thread(s) each "
        f"of {platform.machine()}, ",
        end="",
    )
    print(f"torch {torch.__version__}; the starter set's validation images")


if __name__ == "__main__":
    main()
