"""Calibration: measures normal images with a trained model, and sets the thresholds for abnormal ones.

Every `fit` of a scorable task ends with it, on `best.ckpt` and `last.ckpt`.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from img2img.anomaly.pixel_histogram import HIGHEST, PixelHistogram, gathered
from img2img.anomaly.scorable import NormalImages, Scorable, as_scorable, by_image
from img2img.checkpoint_io import write_checkpoint
from img2img.data.near_duplicates import MOST_KNOWN, fingerprints
from img2img.errors import UserError
from img2img.latents.runner import Devices, first_process, run_over
from img2img.tasks import Task
from img2img.tasks.base import Batch
from img2img.tasks.checkpoint import CHECKPOINT_KEY, read_checkpoint
from img2img.tasks.gather import gather
from img2img.tasks.thresholds import HeldOut, Threshold, Thresholds

QUANTILE = 0.95
"""Fraction of held-out normal images whose scores do not exceed the thresholds."""
PIXEL_QUANTILE = 0.99
"""Fraction of these images' pixels that do not exceed the thresholds of maps."""
UNMARKED = 0.5
"""Fraction of these images on which overlays mark nothing: more would cost marks on defects, which matter more."""
MOST_HELD_OUT = 2_000
"""The most held-out images that are scored, evenly spread: with so many, a 95 % quantile is good to half a per cent."""
LEAST_MARKED = 1e-3
"""The least such threshold, in units of those of the maps, where held-out maps are zero."""
HIGHEST_CONTRAST = 1e4
"""Larger contrasts are counted as this one."""


def calibrate(
    task: Task, data: NormalImages, where: Devices | None = None, quantile: float = QUANTILE, freeze: bool = True
) -> None:
    """Measures the training images with a model, then sets its thresholds from the validation images.

    The images are neither augmented nor corrupted, and no test image is opened. The model keeps the results: an
    autoencoder as its `statistics`, other tasks as their `thresholds`.

    Args:
        task: The trained model.
        data: The images that it was trained on and validated with.
        where: Where to compute; None for `Devices()`.
        quantile: Fraction of the validation images that each threshold leaves below it.
        freeze: Whether the task may set the width of its distribution to what the training images show.

    Raises:
        UserError: If the quantile is not between 0 and 1, the model is not scorable, or its latents are not finite.
    """
    check_quantile(quantile)
    scorable = as_scorable(task)
    task.eval()
    scorable.measure_training(data, where, freeze)
    histograms: dict[str, PixelHistogram] = {}
    rows = run_over(task, data.clean_images("val", MOST_HELD_OUT), partial(_hold_out, scorable, histograms), where)
    scores = {}
    for name in rows[0]["scores"]:
        normal = torch.tensor([row["scores"][name] for row in rows])
        scores[name] = HeldOut(normal, quantile, threshold_of(normal, quantile))
    limits = {name: histogram.quantile(PIXEL_QUANTILE) for name, histogram in gathered(histograms).items()}
    pixels = {name: Threshold(limit, PIXEL_QUANTILE) for name, limit in limits.items()}
    if "map" in limits:
        highest = [max(value / limits[name] for name, value in row["highest"].items()) for row in rows]
        found = max(threshold_of(torch.tensor(highest), UNMARKED), LEAST_MARKED)
        pixels["marks"] = Threshold(found, UNMARKED)
    known = run_over(task, data.trained_images(MOST_KNOWN), _fingerprints, where)
    scorable.thresholds = Thresholds(scores, pixels, torch.stack([row["fingerprint"] for row in known]))


def check_quantile(quantile: float) -> None:
    """Raises a UserError if the quantile is not between 0 and 1."""
    if not 0 < quantile < 1:
        raise UserError(f"the quantile is a fraction of normal images between 0 and 1, such as 0.95, not {quantile}")


def calibrate_checkpoint(path: Path, task: Task, data: NormalImages, where: Devices, freeze: bool) -> None:
    """Calibrates the model in a checkpoint and writes the statistics into it; does nothing if there is no checkpoint.

    The first process replaces the file in one step. Everything else in it stays as it is, except a frozen width of the
    distribution. The task, of the same kind, takes the weights of the checkpoint. The other arguments are as in
    `calibrate`; `freeze` is False for a checkpoint that training resumes from, whose weights must stay.
    """
    checkpoint = read_checkpoint(path) if first_process() and path.exists() else None
    found = gather([checkpoint and {key: checkpoint[key] for key in ("state_dict", CHECKPOINT_KEY)}])[0]
    if found is None:
        return
    task.float().load_state_dict(found["state_dict"])
    task.on_load_checkpoint(found)
    calibrate(task, data, where, freeze=freeze)
    if checkpoint is None:  # not the first process
        return
    saved: dict[str, Any] = {}
    task.on_save_checkpoint(saved)
    checkpoint[CHECKPOINT_KEY]["statistics"] = saved[CHECKPOINT_KEY]["statistics"]
    if freeze:
        weights = checkpoint["state_dict"]
        now = {name: value.cpu().to(weights[name].dtype) for name, value in task.state_dict().items()}
        weights.update({name: value for name, value in now.items() if not value.equal(weights[name])})
    write_checkpoint(checkpoint, path)


def _hold_out(scorable: Scorable, histograms: dict[str, PixelHistogram], task: Task, batch: Batch) -> dict[str, Any]:
    """Scores held-out images, and counts the values of each map, and of the contrast, in a histogram.

    Returns also the `highest` value of what overlays mark, of the map and of the contrast.
    """
    found = scorable.score_batch(batch)
    maps = {f"{prefix}map": values for prefix, values in found.maps.items()}
    for name, values in (maps if found.contrast is None else maps | {"contrast": found.contrast}).items():
        empty = PixelHistogram(highest=HIGHEST_CONTRAST if name == "contrast" else HIGHEST)
        histograms.setdefault(name, empty).add(values[batch["counted"].to(values.device)].cpu().numpy())
    marked = {"map": found.maps.get("") if found.marks is None else found.marks, "contrast": found.contrast}
    highest = {name: values.flatten(1).amax(1) for name, values in marked.items() if values is not None}
    return {"scores": by_image(found.scores), "highest": by_image(highest)}


def _fingerprints(task: Task, batch: Batch) -> dict[str, Tensor]:
    return {"fingerprint": torch.from_numpy(fingerprints(batch["image"]))}


def threshold_of(normal: Tensor, quantile: float) -> float:
    """Returns the value that this fraction of the normal images' scores does not exceed."""
    return float(np.quantile(normal.double().numpy(), quantile))
