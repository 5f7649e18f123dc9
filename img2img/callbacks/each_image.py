"""What a model draws goes to disk on the process that drew it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from lightning.pytorch import Callback, LightningModule, Trainer
from numpy.typing import NDArray

Write = Callable[[int, NDArray[np.float32]], None]
"""Called with the number of an image and its H×W×C; what it raises is noted against that image alone."""


class EachImage(Callback):
    """Hands every image of prediction's `drawn` (N×C×H×W) to a function that writes it, each once.

    Stands before `Collect`: the images are taken out of what that gathers from all processes, and the reason for which
    one could not be written is put in as its `problem`.

    Args:
        write: What writes an image. OSError and ValueError are the image's problem, anything else ends the run.
    """

    def __init__(self, write: Write) -> None:
        self.write = write

    def on_predict_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Writes a batch; not what only fills up a process's share, nor what could not be read."""
        drawn = outputs.pop("drawn").float().cpu().permute(0, 2, 3, 1).numpy()
        for i, (n, counted) in enumerate(zip(batch["n"].tolist(), batch["counted"].tolist(), strict=True)):
            if not counted or batch["problem"][i]:
                continue
            try:
                self.write(n, drawn[i])
            except (OSError, ValueError) as error:
                batch["problem"][i] = str(error)
