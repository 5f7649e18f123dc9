"""Pieces of a photograph that several modules train on."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor


@pytest.fixture
def images(photo) -> Tensor:
    """Two pieces of a photograph, 2×3×24×32."""
    pieces = np.stack([photo[:24, :32], photo[200:224, 150:182]]).astype(np.float32)
    return torch.from_numpy(pieces / 255).permute(0, 3, 1, 2)


@pytest.fixture
def faces(photo, tmp_path) -> Path:
    """Pieces of a photograph, 16×16: 12 to train with, 5 to validate with, 3 to test with."""
    for split, rows, count in (("train", 0, 12), ("val", 100, 5), ("test", 200, 3)):
        (tmp_path / "faces" / split).mkdir(parents=True)
        for i in range(count):
            piece = photo[rows + 16 * (i % 4) :, 20 * i :][:16, :16]
            Image.fromarray(piece).save(tmp_path / "faces" / split / f"{i:02}.png")
    return tmp_path / "faces"
