"""Exponential moving average of the weights, which is validated, saved and used for restoring."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import WeightAveraging
from torch import Tensor

from img2img.distributed import FullyShardedStrategy, alike, is_sharded, mesh_of, shard, whole_state


class AveragedWeights(WeightAveraging):
    """Averages the weights with a decay that starts small.

    After n steps the decay is min(decay, (1 + n) / (10 + n)), as in TensorFlow's ExponentialMovingAverage, so that a
    short run is not held back by its random start.

    Args:
        decay: Fraction of the average that each step keeps; 0 for the latest weights only.
        horizon: For long runs, instead of the decay: averages over about this fraction of the steps so far, so that the
            horizon grows with the run (the power function of Karras et al., CVPR 2024). The average restarts when the
            learning rate starts to decay (`model.decay_steps`), so that it covers only the last steps of that decay.

    Raises:
        ValueError: If the decay is not in [0, 1), or the horizon not in (0, 1).
    """

    def __init__(self, decay: float = 0.999, horizon: float | None = None) -> None:
        if not 0 <= decay < 1:
            raise ValueError(f"the decay of the averaged weights must be in [0, 1), not {decay}")
        if horizon is not None and not 0 < horizon < 1:
            raise ValueError(f"the horizon of the averaged weights must be a fraction between 0 and 1, not {horizon}")
        self.horizon = horizon
        self._pairs: list[tuple[Tensor, Tensor]] = []  # averages, and what they average

        def average(averaged: Sequence[Tensor], current: Sequence[Tensor], count: Tensor | int) -> None:
            if not averaged[0].is_floating_point():  # a batch norm's counter
                torch._foreach_copy_(list(averaged), list(current))
                return
            steps = int(count)
            warmed_up = min(decay, (1 + steps) / (10 + steps)) if horizon is None else 1 - 1 / (1 + horizon * steps)
            for own, theirs in alike(averaged, current):
                torch._foreach_lerp_(own, theirs, 1 - warmed_up)

        self._average = torch.no_grad()(average)
        super().__init__(multi_avg_fn=self._average)

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Copies the weights; into main memory if they will be divided, because the device might not hold them."""
        if isinstance(trainer.strategy, FullyShardedStrategy):
            self._device = torch.device("cpu")
        super().setup(trainer, pl_module, stage)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Converts the average to the precision of the weights, and divides it as they are.

        Lightning converts and divides the weights after copying them.
        """
        assert self._average_model is not None
        averages = self._average_model.module
        for own, theirs in ((averages.parameters(), pl_module.parameters()), (averages.buffers(), pl_module.buffers())):
            for averaged, current in zip(own, theirs, strict=True):
                averaged.data = averaged.data.to(current.dtype)
        if is_sharded(pl_module):
            shard(averages, mesh_of(pl_module))
        parameters = zip(averages.parameters(), pl_module.parameters(), strict=True)
        buffers = zip(averages.buffers(), pl_module.buffers(), strict=True)
        self._pairs = [(own.detach(), theirs.detach()) for own, theirs in (*parameters, *buffers)]

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Puts the average into the checkpoint in place of the latest weights, whole even if it is divided."""
        super().on_save_checkpoint(trainer, pl_module, checkpoint)
        checkpoint["state_dict"] = whole_state(checkpoint["state_dict"])

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Averages the weights after a step; a skipped one has no gradients, and does not count."""
        took_step = trainer.global_step > self._latest_update_step
        self._latest_update_step = trainer.global_step
        if took_step and any(parameter.grad is not None for parameter in pl_module.parameters()):
            self._update(pl_module)

    def _update(self, pl_module: LightningModule) -> None:
        """Does what `AveragedModel.update_parameters` does, which searches all modules for their weights each time."""
        model = self._average_model
        assert model is not None
        if model.n_averaged == 0:
            model.update_parameters(pl_module)  # takes the weights as they are
            return
        for floats in (True, False):
            pairs = [pair for pair in self._pairs if pair[0].is_floating_point() == floats]
            if pairs:
                self._average([own for own, _ in pairs], [theirs for _, theirs in pairs], model.n_averaged)
        model.n_averaged += 1

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        """Restarts the average when the learning rate starts to decay."""
        if self.horizon is not None and getattr(pl_module, "decay_from", None) == trainer.global_step:
            assert self._average_model is not None
            self._average_model.n_averaged.zero_()
