"""Draws numbered pairs of the sample stream."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from img2img.data.pairs import StreamPairs, TrainingPairs, parts_of
from img2img.imaging.drawing import PAPER, draw_row, mark_mask, wrap, write_line

COLUMNS = 4


def draw_pairs(pairs: StreamPairs, numbers: Sequence[int], sees_mask: bool) -> NDArray[np.uint8]:
    """Draws rows of pairs, each under its number, its image's name and what corrupted it; returns H×W×3.

    Args:
        pairs: The stream.
        numbers: Numbers of the samples.
        sees_mask: Whether the network gets the mask, which is then drawn in red-violet.
    """
    texts, images = [], []
    for n in numbers:
        sample, applied = pairs[n], _applied(pairs)
        seen, target, mask = (sample[key].permute(2, 0, 1) for key in ("input", "target", "mask"))
        images.append([mark_mask(seen, mask) if sees_mask else seen, target])
        texts.append([f"{n}  {Path(sample['path']).stem}", *applied])
    width = draw_row(images[0], "").shape[1]
    lines = [[line for each in text for line in wrap(each, width)] for text in texts]
    most = max(map(len, lines))
    cells = [draw_row(pair, "\n".join(own + [""] * (most - len(own)))) for pair, own in zip(images, lines, strict=True)]
    cells += [np.full_like(cells[0], PAPER)] * (-len(cells) % COLUMNS)
    rows = [np.concatenate(cells[i : i + COLUMNS], axis=1) for i in range(0, len(cells), COLUMNS)]
    heads = np.tile(write_line([(0, "input"), (width // 2, "target")], width), (1, COLUMNS, 1))
    return np.concatenate([heads, *rows])


def _applied(pairs: StreamPairs) -> list[str]:
    """Returns the transforms that corrupted the sample drawn last, with the numbers drawn for them; forgets them."""
    found = []
    for transform in parts_of(pairs.corruption) if isinstance(pairs, TrainingPairs) else []:
        drawn = {name: value for name, value in transform.params.items() if name not in ("fill", "values")}  # of holes
        numbers = {name: value for name, value in drawn.items() if isinstance(value, int | float)}
        if transform.params:
            found.append(
                " ".join([type(transform).__name__, *(f"{name} {value:.3g}" for name, value in numbers.items())])
            )
        transform.params = {}  # albumentations keeps those of a transform that is not chosen
    return found
