"""Warns before training if images that it learns from recur in validation or test."""

from __future__ import annotations

import warnings
from contextlib import suppress
from pathlib import Path

import numpy as np
from lightning.pytorch import Callback, LightningModule, Trainer

from img2img.data import PairedData
from img2img.data.matching import listed
from img2img.data.near_duplicates import MOST_COMPARED, MOST_KNOWN, KnownImages, fingerprint
from img2img.data.splits import Split

HELD_OUT: dict[Split, str] = {"val": "validation", "test": "test"}
"""What messages call the splits."""


class LeakCheck(Callback):
    """Looks for near-duplicates of the training images among those of validation and test when training starts."""

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Warns of near-duplicates, with their number and some of their names."""
        data = getattr(trainer, "datamodule", None)
        if isinstance(data, PairedData) and trainer.is_global_zero:
            for line in recurring_images(data):
                warnings.warn(line, stacklevel=1)  # warnings that point into Lightning are printed with its path


def recurring_images(data: PairedData) -> list[str]:
    """Returns a line for each of val and test that has near-duplicates of training images.

    At most `MOST_KNOWN` training images and `MOST_COMPARED` others are opened, evenly spread.
    """
    training, prints = [], []
    for path, pixels in data.open_images("train", MOST_KNOWN):
        training.append(path)
        prints.append(fingerprint(pixels))
    known = KnownImages(np.stack(prints) if prints else None)
    lines, seen = [], set[Path]()
    for split, called in HELD_OUT.items():
        count, found = 0, []
        with suppress(FileNotFoundError):  # no images are held out
            for path, pixels in data.open_images(split, MOST_COMPARED):
                if path in seen:  # test falls back to val
                    continue
                seen.add(path)
                count += 1
                match = known.match(fingerprint(pixels))
                if match is not None:
                    found.append(f"{_short(path)} (like {_short(training[match.number])})")
        if found:
            lines.append(
                f"{len(found)} of {count} {called} image(s) are near-duplicates of training images, so that figures on "
                f"them say little about new parts: {listed(found)}; keep all images of a part on one side "
                "(--data.group_by)"
            )
    return lines


def _short(path: Path) -> str:
    return f"{path.parent.name}/{path.name}"
