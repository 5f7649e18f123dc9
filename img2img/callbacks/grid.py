"""Image grid that shows how training goes: fixed validation images as input, output, target and error map."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.loggers import TensorBoardLogger
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from img2img.callbacks.checkpoints import run_folder
from img2img.imaging.drawing import PAPER, draw_row, mark_mask, write_line
from img2img.tasks.gather import gather


@dataclass(frozen=True)
class Row:
    """One image of the grid, each tensor C×H×W."""

    n: int
    caption: str
    input: Tensor
    output: Tensor
    target: Tensor


class ReconstructionGrid(Callback):
    """Draws input | output | target | error of the same validation images at every validation.

    The grid goes to TensorBoard as one image per step and, as `grid.png`, beside the checkpoints. Captions give the
    task's first metric before and after; the mask that the network gets is drawn in red-violet. The error map is
    |output - target| on a fixed scale, so that grids of different steps can be compared.

    Args:
        images: Rows of the grid: validation items, evenly spread over images and corruptions.
        size: Longest side shown, in pixels; larger images are cropped to their centre, not scaled, which would change
            how noise looks.
        error_scale: The absolute error, in units of the pixel range, that is drawn as white.
    """

    def __init__(self, images: int = 6, size: int = 256, error_scale: float = 0.1) -> None:
        self.images, self.size, self.error_scale = images, size, error_scale
        self._rows: list[Row] = []
        self._chosen: frozenset[int] = frozenset()

    def on_validation_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Chooses the items: the same at every validation and for any number of processes."""
        loader = trainer.val_dataloaders
        count = len(loader.dataset) if loader is not None and hasattr(loader.dataset, "__len__") else 0
        rows = min(self.images, count)
        # Equal parts of the items, and item i of part i: so both images and corruptions vary.
        parts = [range(i * count // rows, (i + 1) * count // rows) for i in range(rows)]
        self._chosen = frozenset(part[i % len(part)] for i, part in enumerate(parts))
        self._rows = []

    def on_validation_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Keeps the chosen images; must be done here, as averaged weights are swapped out before the epoch's end."""
        if not isinstance(outputs, dict) or trainer.sanity_checking or trainer.state.fn != "fit":
            return
        sees_mask = getattr(pl_module, "needs_mask", False)
        for i, n in enumerate(batch["n"].tolist()):
            if n in self._chosen and batch["counted"][i]:
                seen = mark_mask(batch["input"][i], batch["mask"][i]) if sees_mask else batch["input"][i]
                images = (self._crop(image) for image in (seen, outputs["output"][i], batch["target"][i]))
                caption = f"{outputs['captions'][i]}   {Path(batch['path'][i]).name} · {batch['corruption'][i]}"
                self._rows.append(Row(n, caption, *images))

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Draws the grid and writes it, on rank zero."""
        rows = sorted(gather(self._rows), key=lambda row: row.n)
        folder = Path(run_folder(trainer))  # on every rank, so before the others return
        if not rows or not trainer.is_global_zero or trainer.fast_dev_run:  # type: ignore[attr-defined]
            return
        picture = draw_grid(rows, self.error_scale)
        for logger in trainer.loggers:
            if isinstance(logger, TensorBoardLogger):
                logger.experiment.add_image("reconstructions", picture, trainer.global_step, dataformats="HWC")
            elif hasattr(logger, "log_image"):  # W&B's, and loggers like it
                logger.log_image("reconstructions", [picture], step=trainer.global_step)
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(picture).save(folder / "grid.png")

    def _crop(self, image: Tensor) -> Tensor:
        top, left = (max(0, (side - self.size) // 2) for side in image.shape[-2:])
        return image[:, top : top + self.size, left : left + self.size].detach().float().cpu().contiguous()


def draw_grid(rows: list[Row], error_scale: float) -> NDArray[np.uint8]:
    """Returns the grid as H×W×3 uint8: a line with the columns' names, then a caption and a row for each image."""
    strips = [_draw_row(row, error_scale) for row in rows]
    width = max(strip.shape[1] for strip in strips)
    padded = [np.pad(strip, ((0, 0), (0, width - strip.shape[1]), (0, 0)), constant_values=PAPER) for strip in strips]
    columns = ("input", "output", "target", f"error to {error_scale * 255:.0f}/255")
    heads = write_line([(k * (width // len(columns)), head) for k, head in enumerate(columns)], width)
    return np.concatenate([heads, *padded])


def _draw_row(row: Row, error_scale: float) -> NDArray[np.uint8]:
    error = ((row.output - row.target).abs().mean(0, keepdim=True) / error_scale).clamp(0, 1)
    return draw_row([row.input, row.output, row.target, error], row.caption)
