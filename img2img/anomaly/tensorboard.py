"""Histograms of scores for TensorBoard: normal images against abnormal ones, with the threshold between them."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from img2img.anomaly.detection import PCA
from img2img.imaging.drawing import INK, PAPER
from img2img.tasks.thresholds import HeldOut

WIDTH, HEIGHT, MARGIN = 480, 220, 24
BINS = 40
Values = NDArray[np.float64]
TEXT, BACKGROUND = (INK,) * 3, (PAPER,) * 3
NORMAL, ABNORMAL, LIMIT = (70, 120, 170), (215, 95, 40), (30, 30, 30)


def _sheet(panels: Mapping[str, Image.Image]) -> NDArray[np.uint8]:
    """Returns the panels of scores, by their names, with PCA's beside the model's, H×W×3."""
    own = [name for name in panels if not name.startswith(PCA)]
    sheet = Image.new("RGB", (2 * WIDTH, len(own) * HEIGHT), BACKGROUND)
    for row, name in enumerate(own):
        for column, panel in enumerate((panels[name], panels.get(PCA + name))):
            if panel is not None:
                sheet.paste(panel, (column * WIDTH, row * HEIGHT))
    return np.array(sheet)


def draw_histogram(name: str, normal: Values, abnormal: Values, threshold: float) -> Image.Image:
    """Draws a score: fractions of the normal images in blue, of the abnormal ones in orange, and the threshold.

    The axis reaches from the smallest value to the 98 % quantile; larger values are counted in the last bin.
    """
    picture = Image.new("RGB", (WIDTH, HEIGHT), BACKGROUND)
    draw, font = ImageDraw.Draw(picture, "RGBA"), ImageFont.load_default(13)
    draw.text((MARGIN, 4), f"{name}, threshold {threshold:.3g}; normal blue, abnormal orange", TEXT, font)
    both = np.concatenate([normal, abnormal])
    low = min(float(both.min()), threshold * 1.02)
    high = max(float(np.quantile(both, 0.98)), threshold * 1.02, low + 1e-12)
    wide, tall = WIDTH - 2 * MARGIN, HEIGHT - 2 * MARGIN - 6
    fractions = [
        np.histogram(np.clip(values, low, high), BINS, (low, high))[0] / max(1, len(values))
        for values in (normal, abnormal)
    ]
    top = max(float(heights.max()) for heights in fractions) or 1.0
    base, step = HEIGHT - MARGIN, wide / BINS
    for heights, colour in zip(fractions, (NORMAL, ABNORMAL), strict=True):
        for k, part in enumerate(heights.tolist()):
            if part:
                left = MARGIN + k * step
                draw.rectangle((left, base - part / top * tall, left + step - 1, base), (*colour, 150))
    draw.line((MARGIN, base, MARGIN + wide, base), TEXT)
    for value, anchor, end in ((low, "la", MARGIN), (high, "ra", MARGIN + wide)):
        draw.text((end, base + 5), f"{value:.3g}", TEXT, font, anchor)
    x = MARGIN + (min(max(threshold, low), high) - low) / (high - low) * wide
    draw.line((x, MARGIN, x, base), LIMIT, 2)
    return picture


def log_scores(
    folder: Path,
    rows: Sequence[Mapping[str, Any]],
    names: Sequence[str],
    normal: Collection[str],
    held_out: Mapping[str, HeldOut],
) -> None:
    """Writes scores for TensorBoard: the picture, and a histogram of each score's normal and abnormal values.

    Each image has a row with its `label` and the named scores; `normal` are the labels that are normal. If there are no
    normal images, the `held_out` values of each score are drawn as normal.
    """
    from torch.utils.tensorboard import SummaryWriter

    good = [row for row in rows if row["label"] in normal]
    others = [row for row in rows if row["label"] not in normal]
    panels = {}
    with SummaryWriter(str(folder)) as writer:
        for name in names:
            of_normal = np.array([row[name] for row in good]) if good else held_out[name].normal.double().numpy()
            of_others = np.array([row[name] for row in others])
            panels[name] = draw_histogram(name, of_normal, of_others, held_out[name].threshold)
            writer.add_histogram(f"{name}/normal", of_normal, 0)
            if len(of_others):
                writer.add_histogram(f"{name}/abnormal", of_others, 0)
        writer.add_image("scores", _sheet(panels), 0, dataformats="HWC")
