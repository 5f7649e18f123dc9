"""Autoencoders whose weights are set by hand: what they draw of a latent can be told in advance."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from PIL import Image

import img2img
from img2img.imaging.drawing import GAP, LINE, SMALLEST
from img2img.imaging.files import Image as ImageFile
from img2img.imaging.files import write_image
from img2img.tasks import Autoencoder
from img2img.tasks.autoencoding import Distribution
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
        known = Distribution(mean=MEAN, covariance=COVARIANCE, quantiles=QUANTILES, codes=None)
        task.statistics = replace(task.statistics, latents=known)
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
    Image.fromarray(image_of(latent)).save(path)
    return path


def image_of(latent: list[float] | torch.Tensor) -> np.ndarray:
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


def names(folder: Path | str) -> list[str]:
    """Every file of a folder, by relative path."""
    return sorted(path.relative_to(folder).as_posix() for path in Path(folder).rglob("*") if path.is_file())


BRIGHTER = 51
"""0.2 of 255: how much brighter the images of `bright` are than those of `dark`."""


def dark_and_bright() -> dict[str, str]:
    """Writes two folders whose images differ in brightness, by 0.2 in the mean; returns them as `edit` takes them."""
    for folder, brightness in (("dark", -0.2), ("bright", 0.0)):
        for i, other in enumerate((-0.05, 0.0, 0.05)):
            picture(Path(folder) / f"{i}.png", [brightness + other / 5, other, -other])
    return {"start": "dark", "end": "bright"}


def tree_of(photo: np.ndarray) -> Path:
    """Writes a tree of pictures of all kinds; none so bright or so dark that a change would be cut off."""
    moderate = (photo[:30, :44] // 4 + 70).astype(np.uint8)
    Path("in/deep er").mkdir(parents=True)
    exif = Image.Exif()
    exif[0x013B] = "Ansel"
    Image.fromarray(moderate).save("in/a.png", exif=exif, dpi=(300, 300))
    Image.fromarray(moderate[..., 0]).save("in/deep er/a.png")
    alpha = np.arange(30 * 44, dtype=np.uint8).reshape(30, 44, 1)
    Image.fromarray(np.concatenate([moderate, alpha], 2)).save("in/deep er/alpha.png")
    write_image(Path("in/sixteen.tif"), ImageFile(moderate[..., :1].astype(np.uint16) * 256 + 7, None, {}))
    return Path("in")


def add_bad_files() -> None:
    """Adds to the tree a file that is no image, one of three pages, and half of one."""
    Path("in/bad.png").write_text("no image")
    page = Image.new("L", (8, 8))
    page.save("in/pages.tif", save_all=True, append_images=[page, page])
    half = Path("in/a.png").read_bytes()
    Path("in/half.png").write_bytes(half[: len(half) // 2])
