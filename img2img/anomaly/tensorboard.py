"""Histograms of scores for TensorBoard: normal images against abnormal ones, with the threshold between them."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from img2img.anomaly.scores import PCA
from img2img.imaging.drawing import INK, PAPER
from img2img.tasks.thresholds import HeldOut

WIDTH, HEIGHT, MARGIN = 480, 220, 24
BINS = 40
TEXT, BACKGROUND = (INK,) * 3, (PAPER,) * 3
NORMAL, ABNORMAL, LIMIT = (70, 120, 170), (215, 95, 40), (30, 30, 30)


@dataclass(frozen=True)
class Panel:
    """One score.

    Attributes:
        title: Stands above.
        normal: Values of normal images.
        abnormal: Values of the others.
        threshold: Drawn as a line; None for none.
    """

    title: str
    normal: NDArray[np.float64]
    abnormal: NDArray[np.float64]
    threshold: float | None


def draw_histograms(panels: Sequence[Panel], columns: int = 2) -> NDArray[np.uint8]:
    """Returns panels in rows, H×W×3: fractions of the normal images in blue, of the abnormal ones in orange.

    The axis reaches from the smallest value to the 98 % quantile; larger values are counted in the last bin.
    """
    rows = -(-len(panels) // columns)
    sheet = Image.new("RGB", (columns * WIDTH, rows * HEIGHT), BACKGROUND)
    for i, panel in enumerate(panels):
        sheet.paste(_draw(panel), (i % columns * WIDTH, i // columns * HEIGHT))
    return np.array(sheet)


def _draw(panel: Panel) -> Image.Image:
    picture = Image.new("RGB", (WIDTH, HEIGHT), BACKGROUND)
    if not len(panel.normal) + len(panel.abnormal):
        return picture
    draw, font = ImageDraw.Draw(picture, "RGBA"), ImageFont.load_default(13)
    limit = "" if panel.threshold is None else f", threshold {panel.threshold:.3g}"
    draw.text((MARGIN, 4), f"{panel.title}{limit}; normal blue, abnormal orange", TEXT, font)
    low, high = _range(panel)
    wide, high_px = WIDTH - 2 * MARGIN, HEIGHT - 2 * MARGIN
    fractions = [
        np.histogram(np.clip(values, low, high), BINS, (low, high))[0] / max(1, len(values))
        for values in (panel.normal, panel.abnormal)
    ]
    top = max(float(heights.max()) for heights in fractions) or 1.0
    base, step = HEIGHT - MARGIN, wide / BINS
    for heights, colour in zip(fractions, (NORMAL, ABNORMAL), strict=True):
        for k, part in enumerate(heights.tolist()):
            if part:
                left = MARGIN + k * step
                draw.rectangle((left, base - part / top * (high_px - 6), left + step - 1, base), (*colour, 150))
    draw.line((MARGIN, base, MARGIN + wide, base), TEXT)
    for value, anchor, end in ((low, "la", MARGIN), (high, "ra", MARGIN + wide)):
        draw.text((end, base + 5), f"{value:.3g}", TEXT, font, anchor)
    if panel.threshold is not None:
        x = MARGIN + (min(max(panel.threshold, low), high) - low) / (high - low) * wide
        draw.line((x, MARGIN, x, base), LIMIT, 2)
    return picture


def _range(panel: Panel) -> tuple[float, float]:
    values = np.concatenate([panel.normal, panel.abnormal])
    ends = [float(values.min()), float(np.quantile(values, 0.98))]
    if panel.threshold is not None:
        ends.append(panel.threshold * 1.02)
    return min(ends), max(*ends, min(ends) + 1e-12)


def log_scores(
    folder: Path,
    rows: Sequence[Mapping[str, Any]],
    names: Sequence[str],
    thresholds: Mapping[str, float],
    normal: Collection[str],
    held_out: Mapping[str, HeldOut],
) -> None:
    """Writes scores for TensorBoard: the picture, and a histogram of each score's normal and abnormal values.

    Args:
        folder: TensorBoard's folder.
        rows: An image each: `label` and the scores.
        names: The scores.
        thresholds: Of each score.
        normal: Labels of normal images.
        held_out: Of each score; drawn as normal where no image has a normal label.
    """
    from torch.utils.tensorboard import SummaryWriter

    good = [row for row in rows if row["label"] in normal]
    others = [row for row in rows if row["label"] not in normal]
    panels = []
    with SummaryWriter(str(folder)) as writer:
        for name in names:
            of_normal = np.array([row[name] for row in good]) if good else held_out[name].normal.double().numpy()
            of_others = np.array([row[name] for row in others])
            panels.append(Panel(name, of_normal, of_others, thresholds[name]))
            writer.add_histogram(f"{name}/normal", of_normal, 0)
            if len(of_others):
                writer.add_histogram(f"{name}/abnormal", of_others, 0)
        writer.add_image("scores", draw_histograms(_beside_pca(panels)), 0, dataformats="HWC")


def _beside_pca(panels: Sequence[Panel]) -> list[Panel]:
    """Returns the panels for two columns: each score, and PCA's beside it."""
    by_title = {panel.title: panel for panel in panels}
    empty = Panel("", np.zeros(0), np.zeros(0), None)
    own = [panel for panel in panels if not panel.title.startswith(PCA)]
    return [found for panel in own for found in (panel, by_title.get(PCA + panel.title, empty))]
