"""The model of a run on the engine that was asked for, and the device and precision that go with it."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from img2img.errors import UserError
from img2img.inference.plan import open_restorer

if TYPE_CHECKING:
    from img2img.tasks import Restoration, Task

FLOAT32 = "32-true"


@dataclass(frozen=True, eq=False)
class Opened:
    """A model that is ready to run.

    Attributes:
        task: The model.
        file: Its file; None for a task in memory.
        accelerator: Where it runs, by Lightning's name.
        precision: In which it computes, by Lightning's name; never `auto`.
    """

    task: Restoration
    file: Path | None
    accelerator: str
    precision: str


def open_on_engine(
    model: str | Path | Task, trust: Collection[str], engine: str | None, accelerator: str, precision: str
) -> Opened:
    """Opens a model on an engine; see `img2img.restore` for the arguments.

    Raises:
        UserError: If the model does not restore images, the engine cannot run it or is not installed, or an engine
            other than torch is to use a GPU or another precision than float32.
        CheckpointError: If the file is not a model.
        FileNotFoundError: If there is no such model.
    """
    task, file = open_restorer(model, trust, engine)
    import torch

    from img2img.trainer import best_precision

    asked = best_precision(accelerator) if precision == "auto" else precision
    if engine not in (None, "torch") and not hasattr(task, "engine"):
        from img2img.exporting.engines import on_engine

        has_gpu = torch.cuda.is_available() or torch.backends.mps.is_available()
        task = on_engine(task, engine, asked, accelerator == "cpu" or (accelerator == "auto" and not has_gpu))
    if not hasattr(task, "engine"):
        return Opened(task, file, accelerator, asked)
    if accelerator not in ("auto", "cpu"):
        raise UserError(f"{task.engine} runs on the CPU: leave out --accelerator {accelerator}, or --engine")
    if precision not in ("auto", FLOAT32, "32"):
        raise UserError(f"{task.engine} computes in the file's own precision: leave out --precision {precision}")
    return Opened(task, file, "cpu", FLOAT32)
