"""The first line that a run prints: what is trained, on what, where."""

from __future__ import annotations

from pathlib import Path

from lightning.pytorch import Callback, LightningModule, Trainer

from img2img.data import PairedData


class Opening(Callback):
    """Prints images, parameters, device and folder of a run when training starts.

    Args:
        folder: The run's folder.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

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
