"""Restored images go to disk as they come: same tree, name, size and bit depth as their sources."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
from lightning.pytorch import Callback, LightningModule, Trainer

from img2img.imaging.files import Image, from_float, write_image
from img2img.tasks.gather import gather


class ImageWriter(Callback):
    """Writes each output of `predict` under the output folder.

    Args:
        folder: Where the restored images go; the sources' folder tree is kept.
        file: The one file to write instead, where a single image is restored under a name of its own.

    Attributes:
        written: How many images this process wrote; after predict, how many all processes wrote.
        problems: What could not be restored, a line each; after predict, of all processes.
    """

    def __init__(self, folder: str = "restored", file: str | None = None) -> None:
        self.folder, self.file = Path(folder), None if file is None else Path(file)
        self.written = 0
        self.problems: list[str] = []

    def on_predict_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: dict[str, Any],
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Writes one image."""
        if not batch["counted"]:
            return
        if "problem" in batch:
            self.problems.append(batch["problem"])
            return
        destination = self.file if self.file is not None else self.folder / batch["relative"]
        if is_same_file(destination, batch["path"]):
            self.problems.append(f"{batch['path']}: not restored, for it would overwrite the source")
            return
        try:
            self._write(destination, outputs, batch)
        except (ValueError, OSError) as error:  # a depth that the format lacks, a full disk: the others go on
            self.problems.append(f"{batch['path']}: {error}")
        else:
            self.written += 1

    def _write(self, destination: Path, outputs: Any, batch: dict[str, Any]) -> None:
        values = np.ascontiguousarray(outputs[0].permute(1, 2, 0).float().cpu().numpy())
        write_image(destination, Image(from_float(values, batch["dtype"]), batch["alpha"], batch["metadata"]))

    def on_predict_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Counts over all processes."""
        self.written = sum(gather([self.written]))
        self.problems = gather(self.problems)

    def conclude(self, first_process: bool) -> None:
        """Says what was written and what was not.

        Raises:
            SystemExit: With code 1 in the first process if a file was not restored; were others to fail, Lightning
                would kill the first.
        """
        if not first_process:
            return
        print(f"Restored {self.written} image(s) into {self.file or self.folder}")
        for problem in self.problems:
            print(f"not restored: {problem}", file=sys.stderr)
        if self.problems:
            raise SystemExit(1)


def is_same_file(a: Path, b: Path) -> bool:
    """Returns whether two paths lead to the same file, through links and other spellings."""
    return a.exists() and b.exists() and a.samefile(b)
