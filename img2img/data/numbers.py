"""Rows of numbers instead of images, such as latents to draw."""

from __future__ import annotations

from typing import Any

from lightning.pytorch import LightningDataModule
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from img2img.data.stream import EvaluationSampler


class Numbers(LightningDataModule):
    """Rows of a table, in their order, shared among the processes.

    A batch has `numbers` (N×k), and as that of `LabelledImages` `n`, `counted` and `problem` (empty).

    Args:
        rows: The table, the same on every process.
        batch_size: Rows that go through the network together.
    """

    def __init__(self, rows: Tensor, batch_size: int = 32) -> None:
        super().__init__()
        self.rows, self.batch_size = rows, batch_size

    def predict_dataloader(self) -> DataLoader[dict[str, Any]]:
        """Returns the loader of this process's share."""
        if self.trainer is None:
            raise RuntimeError("Numbers makes its loader for a Trainer; call trainer.predict(…, datamodule=…)")
        sampler = EvaluationSampler(len(self.rows), self.trainer.global_rank, self.trainer.world_size)
        return DataLoader(_Rows(self.rows), batch_size=self.batch_size, sampler=sampler)


class _Rows(Dataset[dict[str, Any]]):
    def __init__(self, rows: Tensor) -> None:
        self.rows = rows

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, item: tuple[int, bool]) -> dict[str, Any]:
        n, counted = item
        return {"numbers": self.rows[n], "n": n, "counted": counted, "problem": ""}
