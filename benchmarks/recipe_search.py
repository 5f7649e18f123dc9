"""Which recipe denoises best after equal wall time: one table, one thing changed at a time.

Every run is `img2img fit --config denoise.yaml` in a separate process, with the flags below, on the given folders. It
ends after the given minutes with the learning rate decayed, and is measured on whole images of the validation folder.
Finished runs are not trained again. The other rows differ from the first one.

    python benchmarks/recipe_search.py VALIDATION TRAIN_FOLDER [TRAIN_FOLDER …] [--minutes 6] [--only Muon …]

The networks stay below 3 million parameters, 6 MB in 16 bits, the limit for shipped models. SOAP needs `pip install
pytorch-optimizer`.
"""

from __future__ import annotations

import argparse
import json
import platform
import shutil
import subprocess
import sys
from pathlib import Path

import torch
import yaml
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

OPTIMIZER, NETWORK, DATA = "--model.optimizer", "--model.network.init_args", "--data"
NOISE = "img2img.corruptions.GaussianNoise"
SKEWED = [  # half of the draws lie below 20
    {
        "class_path": "albumentations.OneOf",
        "init_args": {
            "p": 1.0,
            "transforms": [{"class_path": NOISE, "init_args": {"sigma": s}} for s in ([0, 20], [0, 55])],
        },
    }
]
BASE = [
    *(f"{OPTIMIZER}=MuonAdamW", f"{OPTIMIZER}.lr=0.02", f"{OPTIMIZER}.adamw_lr=1.5e-3"),
    *(f"{OPTIMIZER}.weight_decay=0.1", "--model.loss=Charbonnier"),
    *(f"{NETWORK}.channels=[48,96,192]", f"{NETWORK}.blocks=2", f"{DATA}.crop_size=96", f"{DATA}.batch_size=8"),
]
RUNS: dict[str, list[str]] = {
    "Muon": [],
    "AdamW": [f"{OPTIMIZER}=torch.optim.AdamW", f"{OPTIMIZER}.lr=1.5e-3", f"{OPTIMIZER}.weight_decay=0"],
    "no weight decay": [f"{OPTIMIZER}.weight_decay=0"],
    "weight decay 0.3": [f"{OPTIMIZER}.weight_decay=0.3"],
    "channels 64 112 192": [f"{NETWORK}.channels=[64,112,192]"],
    "channels 48 80 112 160": [f"{NETWORK}.channels=[48,80,112,160]"],
    "channels 48 96 160, blocks 3": [f"{NETWORK}.channels=[48,96,160]", f"{NETWORK}.blocks=3"],
    "rate 0.01": [f"{OPTIMIZER}.lr=0.01"],
    "crop 136, batch 4": [f"{DATA}.crop_size=136", f"{DATA}.batch_size=4"],
    "loss MSE": ["--model.loss=MSELoss"],
    "SOAP": [f"{OPTIMIZER}=pytorch_optimizer.SOAP", f"{OPTIMIZER}.lr=3e-3", f"{OPTIMIZER}.weight_decay=0"],
    "leaky ReLU 0.1": [f"{NETWORK}.slope=0.1"],
    "channels 64 112 192, rate 0.01": [f"{NETWORK}.channels=[64,112,192]", f"{OPTIMIZER}.lr=0.01"],
    "sigma skewed to low": [f"{DATA}.corruption={json.dumps(SKEWED)}"],
}


def train(name: str, options: argparse.Namespace) -> Path:
    """Returns the folder of a run; trains it if it is not finished."""
    runs = options.runs / name.replace(" ", "_").replace(",", "")
    if not finished(runs / "denoise" / "0"):
        shutil.rmtree(runs, ignore_errors=True)  # a killed run would have trained for another time
        folders = [str(Path(folder).resolve()) for folder in options.train]
        data = [f"--data.root={json.dumps(folders)}", "--data.share=0", f"--data.val_dir={options.validation}"]
        whole = ["--data.val_crop_size=null", "--data.val_images=null", "--trainer.val_check_interval=1000000"]
        length = [
            "--trainer.max_steps=-1",
            "--trainer.max_epochs=-1",
            f"--trainer.max_time=00:00:{options.minutes:02}:00",
        ]
        place = [f"--trainer.default_root_dir={runs}", "--trainer.enable_progress_bar=false"]
        flags = [*BASE, *RUNS[name], *data, *whole, *length, *place]
        subprocess.run([sys.executable, "-m", "img2img", "fit", "--config", "denoise.yaml", *flags], check=True)
    return runs / "denoise" / "0"


def finished(run: Path) -> bool:
    """Returns whether a run has reached its final validation."""
    if not run.exists():
        return False
    events = EventAccumulator(str(run))
    events.Reload()
    return "val/psnr" in events.Tags()["scalars"]


def figures(run: Path) -> dict[str, float]:
    """Returns what a run reached: PSNR for each sigma in dB, pixels per second, steps and megapixels seen."""
    events = EventAccumulator(str(run))
    events.Reload()
    found = {f"σ {s}": events.Scalars(f"val/psnr/sigma{s}")[-1].value for s in (15, 25, 50)}
    rates = sorted(event.value for event in events.Scalars("train/pixels_per_second"))
    steps = int(torch.load(run / "last.ckpt", weights_only=True)["global_step"])
    data = yaml.safe_load((run / "config.yaml").read_text())["data"]["init_args"]
    pixels = steps * data["batch_size"] * data["crop_size"] ** 2
    return found | {"kpx/s": rates[len(rates) // 2] / 1e3, "steps": steps, "Mpx": pixels / 1e6}


def main() -> None:
    """Trains what is missing, and prints the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("validation")
    parser.add_argument("train", nargs="+")
    parser.add_argument("--minutes", type=int, default=6)
    parser.add_argument("--runs", type=Path, default=Path("runs/recipe_search"))
    parser.add_argument("--only", nargs="+", choices=RUNS, default=list(RUNS))
    options = parser.parse_args()
    rows = {name: figures(train(name, options)) for name in options.only}
    first = next(iter(rows.values()))
    print(f"\n| run | {' | '.join(first)} | mean |\n|{'---|' * (len(first) + 2)}")
    for name, row in rows.items():
        mean = sum(value for key, value in row.items() if key.startswith("σ")) / 3
        cells = [f"{value:.2f}" if key.startswith("σ") else f"{value:.0f}" for key, value in row.items()]
        print(f"| {name} | {' | '.join(cells)} | {mean:.3f} |")
    print(
        f"\nseed 0, {options.minutes} minutes each, {torch.get_num_threads()} threads, {platform.processor()}, ", end=""
    )
    print(f"torch {torch.__version__}; PSNR on {Path(options.validation).name}, whole images")


if __name__ == "__main__":
    main()
