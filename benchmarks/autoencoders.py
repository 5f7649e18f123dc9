"""Helpers for the autoencoder benchmarks: a training run, its model and its data."""

from __future__ import annotations

import platform
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from img2img.data import WholeImages
from img2img.data.splits import Split
from img2img.tasks import Autoencoder


def fit(config: str, folder: Path, steps: int, seed: int, runs: Path, flags: Sequence[str] = ()) -> Path:
    """Trains a config with `img2img fit`; returns the run's folder.

    A finished run of the same name is not trained again.
    """
    from img2img.cli import main

    place = runs / f"{Path(config).stem}"
    run = place / "0"
    if not (run / "last.ckpt").exists() or _steps_of(run / "last.ckpt") != steps:
        main(
            [
                *("fit", "--config", config, f"--data.root={folder}", f"--trainer.max_steps={steps}"),
                *(f"--seed_everything={seed}", f"--trainer.default_root_dir={runs}"),
                *("--trainer.enable_progress_bar=false", f"--trainer.val_check_interval={max(1, min(steps, 500))}"),
                *flags,
            ]
        )
        run = max(place.iterdir(), key=lambda path: int(path.name))
    return run


def _steps_of(checkpoint: Path) -> int:
    steps: int = torch.load(checkpoint, weights_only=True)["global_step"]
    return steps


def open_run(run: Path, checkpoint: str = "last.ckpt") -> Autoencoder:
    """Returns a run's model."""
    from img2img.tasks.recipe import load

    task = load(run / checkpoint)
    assert isinstance(task, Autoencoder)
    return task


def data_of(folder: Path, size: Sequence[int], seed: int, **options: object) -> WholeImages:
    """Returns the data of a run, set up; its splits depend only on the folder and the seed."""
    data = WholeImages(size, root=str(folder), channels=1, seed=seed, **options)  # type: ignore[arg-type]
    for stage in ("fit", "test"):
        data.setup(stage)
    return data


def images_of(data: WholeImages, split: Split) -> np.ndarray:
    """Returns all images of a split, N×C×H×W."""
    return np.concatenate(list(data.targets(split)))


def paths_of(data: WholeImages, split: Split) -> list[Path]:
    """Returns the paths of all images of a split."""
    return list(data.clean_images(split, sys.maxsize).paths)


def plus_minus(values: Sequence[float], digits: int = 4) -> str:
    """Returns mean ± standard deviation of a few runs."""
    return f"{np.mean(values):.{digits}f} ± {np.std(values, ddof=1) if len(values) > 1 else 0:.{digits}f}"


def machine() -> str:
    """Returns a line that describes the machine."""
    return f"{platform.processor() or platform.machine()}, {torch.get_num_threads()} threads, torch {torch.__version__}"
