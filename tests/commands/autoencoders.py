"""Autoencoders whose weights are set by hand: what they draw of a latent can be told in advance."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from PIL import Image

import img2img
from img2img.callbacks.sheets import GAP, LINE, SMALLEST
from img2img.tasks import Autoencoder
from tests.commands.models import save_task

SIDE = 8
MEAN = torch.tensor([0.05, -0.1, 0.02])
COVARIANCE = torch.tensor([[0.01, 0.008, 0.0], [0.008, 0.01, 0.0], [0.0, 0.0, 0.0025]])
QUANTILES = torch.tensor([-0.3, -0.2, -0.1, 0.0, 0.1, 0.2, 0.3])[:, None] * torch.tensor([0.5, 1.0, 0.2])
"""Of the training codes, as calibration would note them; the second latent changes most, the third least."""


def by_hand(channels: int = 1, measured: bool = True) -> Autoencoder:
    """Images of 8×8 from three numbers: brightness over 0.5, left over right, and top over bottom.

    Args:
        channels: Of the images; all channels are equal.
        measured: Whether it knows the statistics of its training codes.
    """
    task = img2img.build(recipe(channels))
    halves = torch.ones(SIDE // 2).tolist() + (-torch.ones(SIDE // 2)).tolist()
    half = torch.tensor(halves)
    patterns = torch.stack([torch.ones(SIDE, SIDE), half.expand(SIDE, SIDE), half[:, None].expand(SIDE, SIDE)])
    patterns = patterns.flatten(1).repeat(1, channels)
    with torch.no_grad():
        encoder, decoder = task.network.encoder[0], task.network.decoder[0]
        encoder.weight.copy_(patterns / patterns.shape[1])
        encoder.bias.copy_(torch.tensor([-0.5, 0, 0]))
        decoder.weight.copy_(patterns.T)
        decoder.bias.fill_(0.5)
    if measured:
        task.statistics.latents = {"mean": MEAN, "covariance": COVARIANCE, "quantiles": QUANTILES}
    return task.eval()


def recipe(channels: int = 1) -> dict:
    network = {"image_size": [SIDE, SIDE], "latent_dim": 3, "in_channels": channels}
    return {
        "class_path": "img2img.tasks.Autoencoder",
        "init_args": {"network": {"class_path": "img2img.networks.LinearAutoencoder", "init_args": network}},
    }


def save(path: Path, channels: int = 1, measured: bool = True) -> str:
    """Writes the autoencoder as a checkpoint."""
    return str(save_task(path, by_hand(channels, measured)))


def picture(path: Path, latent: list[float]) -> Path:
    """Writes what the autoencoder draws of a latent as an 8-bit image."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(drawn(latent)).save(path)
    return path


def drawn(latent: list[float] | torch.Tensor) -> np.ndarray:
    """The 8-bit image of a latent, 8×8."""
    with torch.no_grad():
        image = by_hand(measured=False).decode(torch.as_tensor(latent, dtype=torch.float32)[None])
    return (image * 255).round().byte()[0, 0].numpy()


def tiles(sheet: np.ndarray, columns: int, captions: bool) -> list[np.ndarray]:
    """The images of a sheet, 8×8 each, one channel."""
    step, line = SMALLEST + GAP, LINE if captions else 0
    rows, times = (len(sheet) - GAP) // (step + line), SMALLEST // SIDE
    assert sheet.shape == (rows * (step + line) + GAP, columns * step + GAP, 3)
    corners = [(GAP + r * (step + line), GAP + c * step) for r in range(rows) for c in range(columns)]
    return [sheet[y : y + SMALLEST, x : x + SMALLEST, 0][::times, ::times] for y, x in corners]


def read(path: Path | str) -> np.ndarray:
    return np.array(Image.open(path))
