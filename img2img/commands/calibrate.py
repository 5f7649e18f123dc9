"""What a trained autoencoder has to know of its training images before it can tell what it has never seen.

Run at the end of every `fit` on `best.ckpt` and `last.ckpt`.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from img2img.callbacks.latents import principal_axes
from img2img.commands.applying import Devices, apply, first_process
from img2img.data import WholeImages
from img2img.errors import UserError
from img2img.imaging.parts import appearing
from img2img.tasks import Autoencoder
from img2img.tasks.autoencoding import MOST_CODES, QUANTILES, Statistics
from img2img.tasks.base import Batch
from img2img.tasks.checkpoint import CHECKPOINT_KEY, read_checkpoint
from img2img.tasks.cloud import moments
from img2img.tasks.gather import gather
from img2img.tasks.pixel_histogram import PixelHistogram
from img2img.tasks.principal import fit_principal
from img2img.tasks.scores import PCA, Scorer, scores_of

QUANTILE = 0.95
"""Share of held-out normal images that lie below the thresholds."""
PIXEL_QUANTILE = 0.99
"""Share of their pixels that heat maps leave alone."""


def calibrate(
    task: Autoencoder,
    data: WholeImages,
    where: Devices | None = None,
    quantile: float = QUANTILE,
    freeze: bool = True,
) -> None:
    """Fills in `task.statistics` but for the reference, which is fitted only where it is missing.

    Training and validation images are looked at as they are: not augmented, not corrupted, at most `MOST_CODES` of
    each, evenly spread. Thresholds come from the validation images, and no test image is opened.

    Args:
        task: The trained model.
        data: The images that it was trained on and validated with.
        where: Where to compute.
        quantile: Share of the validation images that each threshold leaves below it.
        freeze: Whether to let the task set the width of its distribution to what the training images show.

    Raises:
        UserError: If the quantile is not between 0 and 1, or the model's latents are not finite.
    """
    check_quantile(quantile)
    task.eval()
    training = data.clean_images("train", MOST_CODES)
    pca = task.statistics.pca or _on_first(lambda: fit_principal(data.targets("train"), task.network.latent_dim))
    task.statistics.pca = pca
    statistics = Statistics(pca=pca, axes=_on_first(lambda: principal_axes(task, data)))
    asked = _Measuring(Scorer(statistics), task.network.image_size)
    rows = apply(task, training, asked, where, progress=False)
    codes = {name: torch.stack([row[name] for row in rows]) for name in rows[0] if isinstance(rows[0][name], Tensor)}
    latents = codes["latents"]
    if not latents.isfinite().all():
        raise UserError("its latents are not finite, for training has diverged: try a smaller --model.lr")
    quantiles = torch.quantile(latents, torch.tensor(QUANTILES), 0)
    statistics.latents = moments(latents) | {"quantiles": quantiles, "codes": latents}
    statistics.pca_latents = moments(codes["pca_latents"]) | {"codes": codes["pca_latents"]}
    statistics.layers = moments(codes["layers"]) if "layers" in codes else {}
    sums = {prefix: torch.stack(gather([found])).sum(0) for prefix, found in asked.errors.items()}
    statistics.errors = {prefix: (found / len(rows)).float() for prefix, found in sums.items()}
    if freeze and "squared_error" in rows[0] and not data.corruption:  # else σ is what corrupted images have shown
        task.freeze_scale(sum(row["squared_error"] for row in rows) / len(rows))
    statistics.scores = _thresholds(task, data, statistics, where, quantile)
    task.statistics = statistics


def check_quantile(quantile: float) -> None:
    """Refuses a share that is none.

    Raises:
        UserError: If so.
    """
    if not 0 < quantile < 1:
        raise UserError(f"the quantile is a share of normal images between 0 and 1, such as 0.95, not {quantile}")


def calibrate_checkpoint(path: Path, task: Autoencoder, data: WholeImages, where: Devices, freeze: bool) -> None:
    """Calibrates the model in a checkpoint and writes the statistics into it; nothing where there is none.

    The file is replaced at once, and all else in it stays as it is; but for the width of the distribution, if frozen.

    Args:
        path: The checkpoint; read and written by the first process only.
        task: A task of its kind, which becomes the one in the checkpoint.
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
    checkpoint[CHECKPOINT_KEY]["statistics"] = task.statistics.plain()
    if freeze:
        weights = checkpoint["state_dict"]
        now = {name: value.cpu().to(weights[name].dtype) for name, value in task.state_dict().items()}
        weights.update({name: value for name, value in now.items() if not value.equal(weights[name])})
    with appearing(path) as part:
        torch.save(checkpoint, part)


class _Measuring:
    """What is asked of training images, and the sums of their pixels' errors."""

    def __init__(self, scorer: Scorer, image_size: Sequence[int]) -> None:
        self.scorer = scorer
        self.errors = {prefix: torch.zeros(image_size, dtype=torch.float64) for prefix in ("", PCA)}

    def __call__(self, task: Autoencoder, batch: Batch) -> dict[str, Any]:
        views, square = self.scorer.views(task, batch), task.squared_error_of(batch)
        for prefix, view in views.items():
            counted = view.errors[batch["counted"].to(view.errors.device)]
            self.errors[prefix] += counted.cpu().double().sum(0)
        own = views[""]
        found = {"latents": own.latents, "pca_latents": views[PCA].latents}
        found |= {"layers": torch.cat(list(own.layers), 1)} if own.layers else {}
        return found | ({} if square is None else {"squared_error": square})


class _HoldingOut:
    """What is asked of held-out images: their scores, and how the pixels of their maps are spread."""

    def __init__(self, scorer: Scorer) -> None:
        self.scorer = scorer
        self.pixels = {"": PixelHistogram(), PCA: PixelHistogram()}

    def __call__(self, task: Autoencoder, batch: Batch) -> dict[str, Any]:
        views = self.scorer.views(task, batch)
        for prefix, view in views.items():
            self.pixels[prefix].add(view.map[batch["counted"].to(view.map.device)].cpu().numpy())
        return scores_of(views)


def _thresholds(
    task: Autoencoder, data: WholeImages, statistics: Statistics, where: Devices | None, quantile: float
) -> dict[str, Any]:
    asked = _HoldingOut(Scorer(statistics))
    rows = apply(task, data.clean_images("val", MOST_CODES), asked, where, progress=False)
    names = [name for name in rows[0] if name not in ("n", "path", "problem")]
    found: dict[str, Any] = {}
    for name in names:
        normal = torch.tensor([row[name] for row in rows])
        found[name] = {"normal": normal, "quantile": quantile, "threshold": threshold_of(normal, quantile)}
    for prefix in asked.pixels:
        pixels = sum(gather([asked.pixels[prefix]]), PixelHistogram())
        found[f"{prefix}map"] = {"quantile": PIXEL_QUANTILE, "threshold": pixels.quantile(PIXEL_QUANTILE)}
    return found


def threshold_of(normal: Tensor, quantile: float) -> float:
    """Returns the value that this share of normal images' does not exceed."""
    return float(np.quantile(normal.double().numpy(), quantile))


def _on_first(compute: Any) -> Any:
    """Returns what the first process computes, on every process."""
    results: Sequence[Any] = gather([compute() if first_process() else None])
    return results[0]
