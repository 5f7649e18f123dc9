"""A sheet of images, each with a caption under it: samples, interpolations, traversals."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

GAP = 4  # pixels around images
LINE = 14  # height of a caption, pixels
SMALLEST = 96  # pixels: images with a shorter side are enlarged by whole numbers, for captions need room
INK, PAPER = 30, 250


def draw_sheet(images: Tensor, columns: int, captions: Sequence[str] | None = None) -> NDArray[np.uint8]:
    """Lays images out in rows.

    Args:
        images: N×C×H×W in [0, 1], what lies outside is clamped; one or three channels. Small ones are enlarged by a
            whole number, without smoothing.
        columns: Images in a row.
        captions: One for each image, written under it in Latin letters (Pillow's font has no Greek ones); cut off
            where it is too long. None for none.

    Returns:
        The sheet, H×W×3.

    Raises:
        ValueError: If there are no images, or not as many captions as images.
    """
    if len(images) == 0 or columns < 1:
        raise ValueError("a sheet needs an image and a column at least")
    if captions is not None and len(captions) != len(images):
        raise ValueError(f"{len(images)} images need as many captions, not {len(captions)}")
    pixels = (images.detach().float().cpu().clamp(0, 1) * 255).round().to(torch.uint8)
    times = -(-SMALLEST // min(images.shape[-2:]))
    pixels = pixels.repeat_interleave(times, 2).repeat_interleave(times, 3).expand(-1, 3, -1, -1)
    height, width = pixels.shape[-2] + GAP, pixels.shape[-1] + GAP
    line = 0 if captions is None else LINE
    columns, rows = min(columns, len(pixels)), -(-len(pixels) // columns)
    sheet = np.full((rows * (height + line) + GAP, columns * width + GAP, 3), PAPER, np.uint8)
    for i, image in enumerate(pixels.permute(0, 2, 3, 1).numpy()):
        top, left = GAP + i // columns * (height + line), GAP + i % columns * width
        sheet[top : top + height - GAP, left : left + width - GAP] = image
        if captions is not None:
            sheet[top + height - GAP : top + height - GAP + LINE, left : left + width - GAP] = _write(
                captions[i], width - GAP
            )
    return sheet


def _write(text: str, width: int) -> NDArray[np.uint8]:
    """Returns LINE×width×1 with a text."""
    line = Image.new("L", (width, LINE), PAPER)
    ImageDraw.Draw(line).text((0, 0), text, INK, ImageFont.load_default(LINE - 3))
    return np.array(line)[..., None]
