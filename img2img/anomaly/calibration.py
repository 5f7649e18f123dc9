"""Calibration: measures normal images with a trained model, and sets the thresholds for abnormal ones.

Every `fit` of an autoencoder ends with it, on `best.ckpt` and `last.ckpt`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from img2img.anomaly.pixel_histogram import PixelHistogram
from img2img.anomaly.scorable import NormalImages, Scorable, as_scorable, by_image
from img2img.errors import UserError
from img2img.imaging.parts import appearing
from img2img.latents.runner import Devices, first_process, run_over
from img2img.tasks import Task
from img2img.tasks.base import Batch
from img2img.tasks.checkpoint import CHECKPOINT_KEY, read_checkpoint
from img2img.tasks.gather import gather
from img2img.tasks.thresholds import HeldOut, Threshold, Thresholds

QUANTILE = 0.95
"""Fraction of held-out normal images whose scores do not exceed the thresholds."""
PIXEL_QUANTILE = 0.99
"""Fraction of their pixels that overlays leave unmarked."""
MOST_HELD_OUT = 2_000
"""The most held-out images that are scored, evenly spread: a 95 % quantile of so many is good to half a per cent."""
HIGHEST_CONTRAST = 1e4
"""Larger contrasts are counted as this one."""


def calibrate(
    task: Task,
    data: NormalImages,
    where: Devices | None = None,
    quantile: float = QUANTILE,
    freeze: bool = True,
) -> None:
    """Measures the training images with a model, then sets its thresholds from the validation images.

    The images are neither augmented nor corrupted, and no test image is opened. The model keeps what is found: an
    autoencoder as its `statistics`.

    Args:
        task: The trained model.
        data: The images that it was trained on and validated with.
        where: Where to compute; None for `Devices()`.
        quantile: Fraction of the validation images that each threshold leaves below it.
        freeze: Whether to let the task set the width of its distribution to what the training images show.

    Raises:
        UserError: If the quantile is not between 0 and 1, the model is not scorable, or its latents are not finite.
    """
    check_quantile(quantile)
    scorable = as_scorable(task)
    task.eval()
    scorable.measure_training(data, where, freeze)
    scorable.thresholds = _thresholds(task, scorable, data, where, quantile)


def check_quantile(quantile: float) -> None:
    """Refuses a quantile that is not between 0 and 1.

    Raises:
        UserError: If the quantile is not between 0 and 1.
    """
    if not 0 < quantile < 1:
        raise UserError(f"the quantile is a fraction of normal images between 0 and 1, such as 0.95, not {quantile}")


def calibrate_checkpoint(path: Path, task: Task, data: NormalImages, where: Devices, freeze: bool) -> None:
    """Calibrates the model in a checkpoint and writes the statistics into it; does nothing if there is no checkpoint.

    The file is replaced in one step. Everything else in it stays as it is, except a frozen width of the distribution.

    Args:
        path: The checkpoint; read and written by the first process only.
        task: A task of the same kind, which takes the weights of the checkpoint.
        data: As in `calibrate`.
        where: As in `calibrate`.
        freeze: As in `calibrate`; False to leave the weights as training has to find them when it goes on.
    """
    checkpoint = read_checkpoint(path) if first_process() and path.exists() else None
    found = gather([checkpoint and {key: checkpoint[key] for key in ("state_dict", CHECKPOINT_KEY)}])[0]
    if found is None:
        return
    task.float().load_state_dict(found["state_dict"])
    task.on_load_checkpoint(found)
    calibrate(task, data, where, freeze=freeze)
    if checkpoint is None:
        return
    saved: dict[str, Any] = {}
    task.on_save_checkpoint(saved)
    checkpoint[CHECKPOINT_KEY]["statistics"] = saved[CHECKPOINT_KEY]["statistics"]
    if freeze:
        weights = checkpoint["state_dict"]
        now = {name: value.cpu().to(weights[name].dtype) for name, value in task.state_dict().items()}
        weights.update({name: value for name, value in now.items() if not value.equal(weights[name])})
    _write(checkpoint, path)


def _write(checkpoint: dict[str, Any], path: Path) -> None:
    with appearing(path) as part:
        torch.save(checkpoint, part)


class _HoldingOut:
    """Scores held-out images, and counts the values of their maps.

    Attributes:
        pixels: A histogram of each map, and of the contrast.
    """

    def __init__(self, scorable: Scorable) -> None:
        self.scorable = scorable
        self.pixels: dict[str, PixelHistogram] = {}

    def __call__(self, task: Task, batch: Batch) -> dict[str, Any]:
        found = self.scorable.score_batch(batch)
        for prefix, values in found.maps.items():
            self._count(f"{prefix}map", values, batch, PixelHistogram())
        if found.contrast is not None:
            self._count("contrast", found.contrast, batch, PixelHistogram(highest=HIGHEST_CONTRAST))
        return {"scores": by_image(found.scores)}

    def _count(self, name: str, values: Tensor, batch: Batch, empty: PixelHistogram) -> None:
        counted = values[batch["counted"].to(values.device)]
        self.pixels.setdefault(name, empty).add(counted.cpu().numpy())

    def gathered(self) -> dict[str, PixelHistogram]:
        """Returns the histograms over the images of all processes; every process must call it."""
        total: dict[str, PixelHistogram] = {}
        for histograms in gather([self.pixels]):
            for name, histogram in histograms.items():
                total[name] = total[name] + histogram if name in total else histogram
        return total


def _thresholds(
    task: Task, scorable: Scorable, data: NormalImages, where: Devices | None, quantile: float
) -> Thresholds:
    holding_out = _HoldingOut(scorable)
    rows = run_over(task, data.clean_images("val", MOST_HELD_OUT), holding_out, where)
    scores = {}
    for name in rows[0]["scores"]:
        normal = torch.tensor([row["scores"][name] for row in rows])
        scores[name] = HeldOut(normal, quantile, threshold_of(normal, quantile))
    pixels = {
        name: Threshold(histogram.quantile(PIXEL_QUANTILE), PIXEL_QUANTILE)
        for name, histogram in holding_out.gathered().items()
    }
    return Thresholds(scores, pixels)


def threshold_of(normal: Tensor, quantile: float) -> float:
    """Returns the value that this fraction of the normal images' scores does not exceed."""
    return float(np.quantile(normal.double().numpy(), quantile))
