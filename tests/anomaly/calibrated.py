"""Small autoencoders that need no training, and small images of one kind of thing."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import img2img
from img2img.anomaly.calibration import calibrate
from img2img.data import WholeImages
from img2img.latents.runner import Devices
from img2img.tasks import Autoencoder
from tests.conftest import STARTER

SIZE = 24
CPU = Devices("cpu", 1)
LINEAR = {
    "class_path": "img2img.networks.LinearAutoencoder",
    "init_args": {"image_size": [SIZE, SIZE], "latent_dim": 4},
}
CONVOLUTIONAL = {
    "class_path": "img2img.networks.ConvAutoencoder",
    "init_args": {"image_size": [SIZE, SIZE], "latent_dim": 4, "channels": [4, 8]},
}


@contextmanager
def shared_place(factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder to work in, for fixtures that several tests share; as `_sandbox` is for each test."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("IMG2IMG_CACHE", str(factory.getbasetemp() / "cache"))
        folder = factory.mktemp("shared")
        patch.chdir(folder)
        yield folder
        os.environ.pop("IMG2IMG_RUN", None)


def make(network: dict) -> Autoencoder:
    torch.manual_seed(0)
    task = img2img.build({"class_path": "img2img.tasks.Autoencoder", "init_args": {"network": network}})
    assert isinstance(task, Autoencoder)
    return task.eval()


def training_images(root: Path) -> Path:
    """Writes train/ with 16 pieces of a photograph and val/ with 12 others."""
    pieces(root / "train", 16), pieces(root / "val", 12, 20)
    return root


def calibrated(network: dict, root: Path) -> Autoencoder:
    """An untrained autoencoder that knows the images of a root."""
    task = make(network)
    calibrate(task, whole(root), CPU)
    return task


def calibrated_pca(root: Path) -> Autoencoder:
    """A linear autoencoder with the weights that PCA has, which knows the images of a root."""
    task = calibrated(LINEAR, root)
    pca = task.statistics.pca
    with torch.no_grad():
        encoder, decoder = task.network.encoder[0], task.network.decoder[0]
        encoder.weight.copy_(pca.axes), encoder.bias.copy_(-pca.axes @ pca.mean)
        decoder.weight.copy_(pca.axes.T), decoder.bias.copy_(pca.mean)
    calibrate(task, whole(root), CPU)
    return task


def pieces(folder: Path, count: int, first: int = 0, size: tuple[int, int] = (40, 30)) -> Path:
    """Writes pieces of a photograph, all of one size; piece n lies where no other does."""
    folder.mkdir(parents=True)
    photo = Image.open(next(STARTER.rglob("gravel-1.png"))).convert("L")
    for i in range(first, first + count):
        left, top = 17 * i % (photo.width - size[0]), 29 * i % (photo.height - size[1])
        photo.crop((left, top, left + size[0], top + size[1])).save(folder / f"{i - first:02}.png")
    return folder


def spotted_parts(root: Path) -> Path:
    """Writes good/, and spot/ whose images have a bright square that spot_masks/ tells; not trained on."""
    pieces(root / "good", 6, 40, (44, 32))
    pieces(root / "spot", 6, 50, (42, 32))
    (root / "spot_masks").mkdir()
    for path in sorted((root / "spot").iterdir()):
        pixels = np.array(Image.open(path))
        pixels[8:16, 20:30] = 255
        Image.fromarray(pixels).save(path.with_suffix(".jpg"), quality=95)
        path.unlink()
        mask = np.zeros_like(pixels)
        mask[8:16, 20:30] = 255
        Image.fromarray(mask).save(root / "spot_masks" / path.name)
    return root


def whole(root: Path) -> WholeImages:
    return WholeImages(root=str(root), image_size=[SIZE, SIZE], channels=1, seed=0)
