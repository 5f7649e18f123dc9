"""Small autoencoders that need no training, and small images of one kind of thing."""

from pathlib import Path

import torch
from PIL import Image

import img2img
from img2img.data import WholeImages
from img2img.tasks import Autoencoder
from tests.conftest import STARTER

SIZE = 24
LINEAR = {
    "class_path": "img2img.networks.LinearAutoencoder",
    "init_args": {"image_size": [SIZE, SIZE], "latent_dim": 4},
}
CONVOLUTIONAL = {
    "class_path": "img2img.networks.ConvAutoencoder",
    "init_args": {"image_size": [SIZE, SIZE], "latent_dim": 4, "channels": [4, 8]},
}


def make(network: dict) -> Autoencoder:
    torch.manual_seed(0)
    task = img2img.build({"class_path": "img2img.tasks.Autoencoder", "init_args": {"network": network}})
    assert isinstance(task, Autoencoder)
    return task.eval()


def pieces(folder: Path, count: int, first: int = 0, size: tuple[int, int] = (40, 30)) -> Path:
    """Writes pieces of a photograph, all of one size; piece n lies where no other does."""
    folder.mkdir(parents=True)
    photo = Image.open(next(STARTER.rglob("gravel-1.png"))).convert("L")
    for i in range(first, first + count):
        left, top = 17 * i % (photo.width - size[0]), 29 * i % (photo.height - size[1])
        photo.crop((left, top, left + size[0], top + size[1])).save(folder / f"{i - first:02}.png")
    return folder


def whole(root: Path) -> WholeImages:
    return WholeImages(root=str(root), image_size=[SIZE, SIZE], channels=1, seed=0)
