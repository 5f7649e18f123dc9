"""Image grid that shows how training goes: fixed validation images as input, output, target and error map."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from lightning.pytorch import LightningModule, Trainer
from numpy.typing import NDArray
from torch import Tensor

from img2img.callbacks.checkpoints import run_folder
from img2img.callbacks.collector import ValidationCollector
from img2img.callbacks.pictures import log_picture
from img2img.imaging.drawing import PAPER, draw_row, mark_mask, write_line
from img2img.imaging.parts import appearing
from img2img.tasks.gather import gather


@dataclass(frozen=True)
class Row:
    """One image of the grid, each tensor C×H×W."""

    n: int
    caption: str
    input: Tensor
    output: Tensor
    target: Tensor
    sigma: Tensor | None = None
    mask: Tensor | None = None
    mask_found: Tensor | None = None


class ReconstructionGrid(ValidationCollector[Row]):
    """Draws input | output | target | error of the same validation images at every validation.

    What the task estimates beside the output follows: σ, or the mask and its estimate.

    The grid goes to the run's loggers as one image per step and, as `grid.png`, beside the checkpoints. Captions give
    the task's first metric before and after; the mask that the network gets is drawn in red-violet. The error map is
    |output - target| on a fixed scale, so that grids of different steps can be compared; σ has the same scale.

    Args:
        images: Rows of the grid: validation items, evenly spread over images and corruptions.
        size: Longest side shown, in pixels; larger images are cropped to their centre, not scaled, which would change
            how noise looks.
        error_scale: The absolute error, in units of the pixel range, that is drawn as white.
    """

    def __init__(self, images: int = 6, size: int = 256, error_scale: float = 0.1) -> None:
        super().__init__()
        self.images, self.size, self.error_scale = images, size, error_scale
        self._chosen: frozenset[int] = frozenset()

    def on_validation_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Chooses the items: the same at every validation and for any number of processes."""
        super().on_validation_epoch_start(trainer, pl_module)
        loader = trainer.val_dataloaders
        count = len(loader.dataset) if loader is not None and hasattr(loader.dataset, "__len__") else 0
        rows = min(self.images, count)
        # Equal parts of the items, and item i of part i: so both images and corruptions vary.
        parts = [range(i * count // rows, (i + 1) * count // rows) for i in range(rows)]
        self._chosen = frozenset(part[i % len(part)] for i, part in enumerate(parts))

    def collect(self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any) -> Iterator[Row]:
        """Yields the chosen images."""
        sees_mask = getattr(pl_module, "needs_mask", False)
        for i, n in enumerate(batch["n"].tolist() if isinstance(outputs, dict) else []):
            if n in self._chosen and batch["counted"][i]:
                seen = mark_mask(batch["input"][i], batch["mask"][i]) if sees_mask else batch["input"][i]
                shown = {"input": seen, "output": outputs["output"][i], "target": batch["target"][i]}
                if outputs.get("sigma") is not None:
                    shown["sigma"] = outputs["sigma"][i]
                if outputs.get("mask") is not None:
                    shown |= {"mask": batch["mask"][i], "mask_found": outputs["mask"][i]}
                caption = f"{outputs['captions'][i]}   {Path(batch['path'][i]).name} · {batch['corruption'][i]}"
                yield Row(n, caption, **{name: self._crop(image) for name, image in shown.items()})

    def on_collected(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Draws the grid and writes it, on rank zero."""
        rows = sorted(gather(self.items), key=lambda row: row.n)
        folder = Path(run_folder(trainer))  # on every rank, so before the others return
        if not rows or not trainer.is_global_zero:
            return
        png = log_picture(trainer, "reconstructions", draw_grid(rows, self.error_scale))
        with appearing(folder / "grid.png") as part:
            part.write_bytes(png)

    def _crop(self, image: Tensor) -> Tensor:
        top, left = (max(0, (side - self.size) // 2) for side in image.shape[-2:])
        return image[:, top : top + self.size, left : left + self.size].detach().float().cpu().contiguous()


def draw_grid(rows: list[Row], error_scale: float) -> NDArray[np.uint8]:
    """Returns the grid as H×W×3 uint8: a line with the columns' names, then a caption and a row for each image."""
    strips = []
    for row in rows:
        maps = [(row.output - row.target).abs(), *([] if row.sigma is None else [row.sigma])]
        gray = [(values.mean(0, keepdim=True) / error_scale).clamp(0, 1) for values in maps]
        masks = [mask for mask in (row.mask, row.mask_found) if mask is not None]
        strips.append(draw_row([row.input, row.output, row.target, *gray, *masks], row.caption))
    width = max(strip.shape[1] for strip in strips)
    padded = [np.pad(strip, ((0, 0), (0, width - strip.shape[1]), (0, 0)), constant_values=PAPER) for strip in strips]
    scale = f"to {error_scale * 255:.0f}/255"
    columns = ["input", "output", "target", f"error {scale}", *([] if rows[0].sigma is None else [f"sigma {scale}"])]
    columns += [] if rows[0].mask_found is None else ["mask", "mask found"]
    heads = write_line([(k * (width // len(columns)), head) for k, head in enumerate(columns)], width)
    return np.concatenate([heads, *padded])
