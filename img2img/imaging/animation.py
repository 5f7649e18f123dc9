"""Writes animations."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from img2img.imaging.parts import appearing

STEP, END = 120, 600  # duration of a frame, and of the first and last frame, in milliseconds


def write_gif(path: Path, frames: Sequence[NDArray[np.uint8]]) -> None:
    """Writes frames as a GIF that plays back and forth in a loop; the file appears complete or not at all.

    Args:
        path: The target; an existing file is replaced. Missing parents are created.
        frames: H×W×3 each, of one size. Gray frames keep their values, others are reduced to 256 colours.

    Raises:
        OSError: If the file cannot be written.
    """
    gray = [(frame == frame[..., :1]).all() for frame in frames]
    pictures = [Image.fromarray(frame[..., 0] if plain else frame) for frame, plain in zip(frames, gray, strict=True)]
    pictures += pictures[-2:0:-1]
    durations = [END if i in (0, len(frames) - 1) else STEP for i in range(len(pictures))]
    with appearing(path) as part:
        pictures[0].save(part, "GIF", save_all=True, append_images=pictures[1:], duration=durations, loop=0)
