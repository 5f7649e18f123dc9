"""Helpers for the restoration benchmarks: corrupted images, and methods timed and measured on them."""

from __future__ import annotations

import platform
import statistics
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.rivals import Method
from img2img.data.pairs import Transform, collate, compose, corrupt
from img2img.data.splits import whole_folder
from img2img.data.stream import draws_of_image
from img2img.imaging.files import read_finite, to_channels, to_float

SEED = 0
CROPS = ("whole", "kodak", "centre")
Row = dict[str, float]


def images(folder: Path, crop: str = "whole", most: int | None = None) -> Iterator[tuple[str, np.ndarray]]:
    """Yields the images of a folder by name, H×W×3 float32 in [0, 1].

    Args:
        folder: The folder, searched recursively.
        crop: `whole`; `kodak`, the 500×500 at x = 134, y = 6 of a landscape and at x = 6, y = 134 of a portrait, which
            papers call Kodak24; `centre`, the middle 256×256.
        most: How many at most, evenly spread; None for all.
    """
    source = whole_folder(folder)
    count = len(source.paths)
    most = count if most is None else min(most, count)
    paths = [source.paths[i * count // most] for i in range(most)]
    for path in paths:
        pixels = to_channels(read_finite(path).pixels, 3)
        height, width = pixels.shape[:2]
        if crop == "kodak":
            top, left = (6, 134) if width >= height else (134, 6)
            pixels = pixels[top : top + 500, left : left + 500]
        elif crop == "centre":
            top, left = max(0, height - 256) // 2, max(0, width - 256) // 2
            pixels = pixels[top : top + 256, left : left + 256]
        yield source.name(path), to_float(pixels)


def batch_of(name: str, clean: np.ndarray, corruption: Sequence[Transform], gray: bool = False) -> dict[str, Any]:
    """Returns an image with its corrupted copy as a batch of one; the draws depend only on the seed and the name."""
    target = _luma(clean) if gray else clean
    seen, mask = corrupt(compose(corruption), target, draws_of_image(SEED, name))
    pair = {"input": seen, "target": target, "mask": mask}
    return collate([{key: torch.from_numpy(np.ascontiguousarray(value)) for key, value in pair.items()}])  # type: ignore[list-item]


def model(name: str) -> Method:
    """Returns a model as a method: a shipped one by name, a checkpoint, or a file that spandrel reads."""
    import img2img

    task: Any = img2img.load(name).eval()

    @torch.inference_mode()
    def restore(batch: dict[str, Any]) -> torch.Tensor:
        restored: torch.Tensor = task.restore_tile(batch["input"], batch["mask"] if task.needs_mask else None)
        return restored

    return restore


def measure(method: Method, batch: dict[str, Any], metrics: Sequence[Any]) -> Row:
    """Returns the metrics of a method's output, rounded to 8 bits, and its seconds and megapixels."""
    from img2img.tasks.metrics import Images, as_8_bit

    began = time.perf_counter()
    output = method(batch)
    seconds = time.perf_counter() - began
    target = batch["target"]
    seen = as_8_bit(batch["input"]).expand_as(target)
    images = Images(seen, as_8_bit(output.float()), target, batch["mask"])
    row = {key: value for metric in metrics for key, value in metric(images).items()}
    return row | {"seconds": seconds, "megapixels": target.shape[-1] * target.shape[-2] / 1e6}


def mean(rows: Sequence[Row]) -> Row:
    """Returns the mean of each metric over images, and megapixels per second over all of them."""
    found = {key: statistics.fmean(row[key] for row in rows) for key in rows[0] if key not in ("seconds", "megapixels")}
    return found | {"MP/s": sum(row["megapixels"] for row in rows) / sum(row["seconds"] for row in rows)}


def machine() -> str:
    """Returns a line that describes the machine."""
    return f"seed {SEED}, {torch.get_num_threads()} threads of {platform.machine()}, torch {torch.__version__}"


def _luma(rgb: np.ndarray) -> np.ndarray:
    """Returns Rec. 601 luma, rounded to 8 bits, H×W×1."""
    gray = rgb @ np.array([0.299, 0.587, 0.114], np.float32)
    return (np.round(gray * 255) / 255)[..., None].astype(np.float32)
