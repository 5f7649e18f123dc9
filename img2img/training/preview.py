"""Draws numbered pairs of the sample stream."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from img2img.data.pairs import Sample
from img2img.imaging.drawing import PAPER, draw_row, mark_mask

COLUMNS = 4


def draw_pairs(samples: Sequence[Sample], sees_mask: bool) -> NDArray[np.uint8]:
    """Draws rows of pairs, each under its number and its image's name; returns H×W×3.

    Args:
        samples: The pairs.
        sees_mask: Whether the network gets the mask, which is then drawn in red-violet.
    """
    cells = []
    for sample in samples:
        seen, target, mask = (sample[key].permute(2, 0, 1) for key in ("input", "target", "mask"))
        shown = mark_mask(seen, mask) if sees_mask else seen
        cells.append(draw_row([shown, target], f"{sample['n']}  {Path(sample['path']).stem}"))
    cells += [np.full_like(cells[0], PAPER)] * (-len(cells) % COLUMNS)
    rows = [np.concatenate(cells[i : i + COLUMNS], axis=1) for i in range(0, len(cells), COLUMNS)]
    return np.concatenate(rows)
