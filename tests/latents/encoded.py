"""Pieces of a photograph in nested folders, and an autoencoder that knows their principal components."""

from pathlib import Path

import numpy as np
from PIL import Image

from img2img.data.scaling import scale_to
from img2img.imaging.files import read_image, to_channels, to_float
from tests.commands.models import save_autoencoder

NAMES = ["a/left/1.png", "a/right/2.png", 'b/"3", 3.png', "b/4\n4.png", "top.png"]


def pieces(folder: Path, photo: np.ndarray) -> Path:
    """Writes five pieces of a photograph in nested folders, of different sizes."""
    for i, name in enumerate(NAMES):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(photo[60 * i : 60 * i + 24 + i, 50 : 50 + 32]).save(path)
    return folder


def read_all(folder: Path) -> np.ndarray:
    """The images as the network gets them, N×1×12×16 in [0, 1]."""
    pixels = [scale_to(to_channels(read_image(folder / name).pixels, 1), (12, 16)) for name in NAMES]
    return np.stack([to_float(image).transpose(2, 0, 1) for image in pixels])


def encoder(path: Path, folder: Path) -> Path:
    """Writes an untrained autoencoder of gray images 12×16, with the components of the pieces."""
    return save_autoencoder(path, read_all(folder))
