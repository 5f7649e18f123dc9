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
    """Returns a sheet of images in rows, H×W×3.

    Args:
        images: N×C×H×W in [0, 1], clamped; one or three channels. Small ones are enlarged by a whole number, without
            smoothing.
        columns: Images in a row.
        captions: The text under each image, cut off if too long; Pillow's font has no Greek letters. None for no text.

    Raises:
        ValueError: If there are no images, or not as many captions as images.
    """
    if len(images) == 0 or columns < 1:
        raise ValueError("a sheet needs at least one image and one column")
    if captions is not None and len(captions) != len(images):
        raise ValueError(f"{len(images)} images need as many captions, not {len(captions)}")
    pixels = _enlarged((images.detach().float().cpu().clamp(0, 1) * 255).round().to(torch.uint8))
    tiles = list(pixels.expand(-1, 3, -1, -1).permute(0, 2, 3, 1).numpy())
    if captions is not None:
        lines = [_line([((0, 0), text)], tiles[0].shape[1], LINE, LINE - 3) for text in captions]
        tiles = [np.concatenate([tile, line]) for tile, line in zip(tiles, lines, strict=True)]
    height, width = tiles[0].shape[0] + GAP, tiles[0].shape[1] + GAP
    columns, rows = min(columns, len(tiles)), -(-len(tiles) // columns)
    sheet = np.full((rows * height + GAP, columns * width + GAP, 3), PAPER, np.uint8)
    for i, tile in enumerate(tiles):
        top, left = GAP + i // columns * height, GAP + i % columns * width
        sheet[top : top + height - GAP, left : left + width - GAP] = tile
    return sheet


def _enlarged(images: Tensor) -> Tensor:
    """Returns N×C×H×W images, enlarged by a whole number if a side is shorter than SMALLEST."""
    times = -(-SMALLEST // min(images.shape[-2:]))
    return images.repeat_interleave(times, 2).repeat_interleave(times, 3)


def _line(texts: Sequence[tuple[tuple[int, int], str]], width: int, height: int, size: int) -> NDArray[np.uint8]:
    """Returns a picture of texts, each at its place (x, y), height×width×3."""
    canvas = Image.new("L", (width, height), PAPER)
    for place, text in texts:
        ImageDraw.Draw(canvas).text(place, text, INK, ImageFont.load_default(size))
    return np.array(canvas.convert("RGB"))


def draw_row(images: Sequence[Tensor], text: str) -> NDArray[np.uint8]:
    """Returns images side by side under a line of text, H×W×3.

    Args:
        images: C×H×W in [0, 1] of equal height and width, clamped; one or three channels. Small ones are enlarged by a
            whole number, without smoothing.
        text: The line above the images, or several lines.
    """
    channels = max(image.shape[0] for image in images)
    tiles = _enlarged(torch.stack([image.clamp(0, 1).expand(channels, -1, -1) for image in images]))
    grid = make_grid(tiles, nrow=len(tiles), padding=ROW_GAP, pad_value=PAPER / 255)
    pixels = (grid * 255).round().byte().permute(1, 2, 0).numpy()
    return np.concatenate([write_line([(0, text)], pixels.shape[1]), pixels])


def write_line(texts: Sequence[tuple[int, str]], width: int) -> NDArray[np.uint8]:
    """Returns a line of texts, each at its distance from the left; ROW_LINE×width×3, or higher for several lines."""
    size = _size(width)
    more = max(text.count("\n") for _, text in texts) * (size + 4)
    placed = [((ROW_GAP + left, (ROW_LINE - size) // 2 - 2), text) for left, text in texts]
    return _line(placed, width, ROW_LINE + more, size)


def wrap(text: str, width: int) -> list[str]:
    """Breaks a text between words into lines that `write_line` does not cut off; later lines are indented."""
    font = ImageFont.load_default(_size(width))
    lines: list[str] = []
    for word in text.split(" "):
        if lines and font.getlength(f"{lines[-1]} {word}") <= width - ROW_GAP:
            lines[-1] += f" {word}"
        else:
            lines.append(f"   {word}" if lines else word)
    return lines


def _size(width: int) -> int:
    """Returns the size of the letters above a row of a width, in pixels."""
    # Large letters, because TensorBoard shows the grid at a third of its width; smaller if the images are narrow.
    return min(30, max(10, width // 34))


def mark_mask(image: Tensor, mask: Tensor) -> Tensor:
    """Returns a C×H×W image with its 1×H×W mask in red-violet, 3×H×W; or unchanged if nothing is masked."""
    if not mask.any():
        return image
    return torch.where(mask.bool(), image.new_tensor(MASKED).view(3, 1, 1), image)
