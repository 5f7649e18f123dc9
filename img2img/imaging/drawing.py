"""Draws pictures of several images: sheets with a caption under each image, and rows under a line of text."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor
from torchvision.utils import make_grid

GAP = 4  # pixels around images
LINE = 14  # height of a caption, pixels
SMALLEST = 96  # pixels; images with a shorter side are enlarged by whole numbers, because captions need room
INK, PAPER = 30, 250
ROW_GAP = 6  # pixels around the images of a row
ROW_LINE = 40  # height of the line above a row, pixels
MASKED = (0.80, 0.25, 0.55)  # a red-violet that photographs hardly have


def draw_sheet(images: Tensor, columns: int, captions: Sequence[str] | None = None) -> NDArray[np.uint8]:
    """Lays images out in rows.

    Args:
        images: N×C×H×W in [0, 1], clamped; one or three channels. Small ones are enlarged by a whole number, without
            smoothing.
        columns: Images in a row.
        captions: One for each image, written under it in Latin letters (Pillow's font has no Greek ones) and cut off
            if too long. None for no captions.

    Returns:
        The sheet, H×W×3.

    Raises:
        ValueError: If there are no images, or not as many captions as images.
    """
    if len(images) == 0 or columns < 1:
        raise ValueError("a sheet needs at least one image and one column")
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
    """Returns a line of text, LINE×width×1."""
    line = Image.new("L", (width, LINE), PAPER)
    ImageDraw.Draw(line).text((0, 0), text, INK, ImageFont.load_default(LINE - 3))
    return np.array(line)[..., None]


def draw_row(images: Sequence[Tensor], text: str) -> NDArray[np.uint8]:
    """Returns images side by side under a line of text, H×W×3.

    Args:
        images: C×H×W in [0, 1] of equal height and width, clamped; one or three channels. Small ones are enlarged by a
            whole number, without smoothing.
        text: The line above the images.
    """
    channels = max(image.shape[0] for image in images)
    tiles = torch.stack([image.clamp(0, 1).expand(channels, -1, -1) for image in images])
    times = -(-SMALLEST // min(tiles.shape[-2:]))
    tiles = tiles.repeat_interleave(times, 2).repeat_interleave(times, 3)
    grid = make_grid(tiles, nrow=len(tiles), padding=ROW_GAP, pad_value=PAPER / 255)
    pixels = (grid * 255).round().byte().permute(1, 2, 0).numpy()
    return np.concatenate([write_line([(0, text)], pixels.shape[1]), pixels])


def write_line(texts: Sequence[tuple[int, str]], width: int) -> NDArray[np.uint8]:
    """Returns a line of texts, each at its distance from the left, ROW_LINE×width×3."""
    canvas = Image.new("RGB", (width, ROW_LINE), (PAPER, PAPER, PAPER))
    # Large letters, because TensorBoard shows the grid at a third of its width; smaller if the images are narrow.
    size = min(30, max(10, width // 34))
    font = ImageFont.load_default(size)
    for left, text in texts:
        ImageDraw.Draw(canvas).text((ROW_GAP + left, (ROW_LINE - size) // 2 - 2), text, (INK, INK, INK), font)
    return np.array(canvas)


def mark_mask(image: Tensor, mask: Tensor) -> Tensor:
    """Returns a C×H×W image with its 1×H×W mask in red-violet, 3×H×W; or unchanged if nothing is masked."""
    if not mask.any():
        return image
    return torch.where(mask.bool(), image.new_tensor(MASKED).view(3, 1, 1), image)
