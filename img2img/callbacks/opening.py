"""What a run prints first: what is trained, on what, where, and how long it will take."""

from __future__ import annotations

import time
import warnings
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import Timer

from img2img.data import PairedData
from img2img.networks.memory import training_bytes
from img2img.tasks import Task
from img2img.tiling.planner import GIGABYTE, free_memory

LARGE = 500_000
"""Pixels of a batch below which memory is not estimated."""
MEASURED = 10
"""Steps after the first one, and seconds, from which the duration is estimated."""


class Opening(Callback):
    """Prints images, parameters, device and folder of a run when training starts, and soon after how long it takes.

    Warns before training if a batch will not fit into memory.

    Args:
        folder: The run's folder.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._since: tuple[int, float] | None = None  # step and time
        self._told, self._paused = False, 0.0

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Warns if the batches need more memory than is free."""
        data = getattr(trainer, "datamodule", None)
        if not isinstance(data, PairedData) or not isinstance(pl_module, Task) or not trainer.is_global_zero:
            return
        count, side = data.batch_size, data.crop_size
        if count * side**2 < LARGE:
            return
        dtype = torch.bfloat16 if "16" in str(trainer.precision) else torch.float32
        free = free_memory(trainer.strategy.root_device)
        needed = 0
        with suppress(Exception):  # some networks cannot run without data; their memory stays unknown
            needed = training_bytes(pl_module.network, (count, pl_module.network_inputs, side, side), dtype)
        if needed > free:
            option = "image_size" if hasattr(data, "image_size") else "crop_size"
            warnings.warn(
                f"a batch of {count} images of {side}×{side} takes about {needed / GIGABYTE:.1f} GB in training, "
                f"but {free / GIGABYTE:.1f} GB are free: choose a smaller --data.{option} or --data.batch_size",
                stacklevel=1,  # warnings that point into Lightning are printed with its path
            )

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Prints the line, on rank zero."""
        if not trainer.is_global_zero:
            return
        data = getattr(trainer, "datamodule", None)
        counts = data.image_counts() if isinstance(data, PairedData) else {}
        images = ", ".join(f"{count:,} {split}" for split, count in counts.items())
        parameters = sum(parameter.numel() for parameter in pl_module.parameters())
        number = f"{parameters / 1e6:.2f} M" if parameters >= 1e5 else f"{parameters:,}"
        devices = f"{trainer.world_size} × " if trainer.world_size > 1 else ""
        where = f"{devices}{trainer.strategy.root_device.type} {trainer.precision}"
        resumed = f"resumes at step {trainer.global_step:,}" if trainer.global_step else ""
        parts = (f"images: {images}" if images else "", f"{number} parameters", where, str(self.folder), resumed)
        print(" · ".join(part for part in parts if part))

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Prints once how long the run will take, unless that is unknown or it is nearly over."""
        now, step = time.monotonic(), trainer.global_step
        if self._since is None:  # the first step is a warm-up
            self._since = step, now
        steps, seconds = step - self._since[0], now - self._since[1]
        if self._told or steps < MEASURED or seconds < MEASURED:
            return
        self._told = True
        left = (trainer.estimated_stepping_batches - step) * seconds / steps
        timers = [callback.time_remaining() for callback in trainer.callbacks if isinstance(callback, Timer)]  # type: ignore[attr-defined]
        left = min([left, *(limit for limit in timers if limit is not None)])
        if MEASURED < left < float("inf"):
            pl_module.print(f"about {in_words(left)} to go, without validation")

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Stops the clock."""
        self._paused = time.monotonic()

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Leaves the validation out of the time."""
        if self._since is not None:
            self._since = self._since[0], self._since[1] + time.monotonic() - self._paused


def in_words(seconds: float) -> str:
    """Returns a duration rounded to one unit: 40 s, 8 min, 2.5 h."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 90 * 60 else f"{seconds / 3600:.1f} h"
