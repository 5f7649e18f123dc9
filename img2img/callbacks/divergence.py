"""Catches what would spoil a run: losses, gradients and weights that are not finite, and spikes of the loss."""

from __future__ import annotations

import math
import shlex
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import Any, Literal

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor

from img2img.distributed import whole
from img2img.errors import UserError
from img2img.tasks.gather import gather

RECENT = 100
"""Losses with which a new one is compared."""
MOST_IN_A_ROW = 10
"""Steps in a row that may be skipped: more are not the fault of their samples."""


class Diverged(UserError):
    """Training has failed, or was asked to stop at the first bad step; the message names the step and its samples."""

    exit_code = 1


class DivergenceGuard(Callback):
    """Skips steps whose loss or gradient is not finite or whose loss spikes, or stops at the first one.

    A skipped step leaves weights, optimizer and averaged weights as they were, on all ranks alike, and its samples are
    printed. Training stops after 10 skipped steps in a row, at a checkpoint whose weights are not finite, and at a
    validation that is not a number. With `16-mixed` precision the gradient is left to the scaler of the loss, which
    skips such steps as part of its work.

    Args:
        action: `skip` such steps, or `stop` the run. One bad sample is no reason to lose a night of training, and what
            skipping does not cure still ends the run.
        spike: A loss is a spike if it is above the median of the last 100 by more than `spike` times as much as any
            of these (or as a tenth of the median), and above each of the run's first 100 losses. None to catch only
            what is not finite.

    Raises:
        ValueError: If the action is unknown, or `spike` not above 1.
    """

    def __init__(self, action: Literal["skip", "stop"] = "skip", spike: float | None = 10.0) -> None:
        if action not in ("skip", "stop"):
            raise ValueError(f"the action of divergence must be skip or stop, not {action}")
        if spike is not None and not spike > 1:
            raise ValueError(f"the spike of divergence must be above 1, not {spike}")
        self.action, self.spike = action, spike
        self._recent: list[float] = []
        self._highest_at_first: float | None = None
        self._skipped = self._in_row = 0
        # Of the batches of one step:
        self._losses: list[Tensor] = []
        self._samples: list[tuple[Tensor, Tensor]] = []
        self._buffers: list[Tensor] = []

    def state_dict(self) -> dict[str, Any]:
        """Returns the recent losses, so that a resumed run decides as this one."""
        return {
            "recent": list(self._recent),
            "highest_at_first": self._highest_at_first,
            "skipped": self._skipped,
            "in_row": self._in_row,
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restores the recent losses."""
        self._recent, self._highest_at_first = list(state_dict["recent"]), state_dict["highest_at_first"]
        self._skipped, self._in_row = state_dict["skipped"], state_dict["in_row"]

    # A step -----------------------------------------------------------------------------------------------------------

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        """Notes the samples' numbers, and the buffers, which a forward pass may change (batch norm, running means)."""
        if not self._losses:  # the first batch of a step
            self._samples, self._buffers = [], [buffer.clone() for buffer in pl_module.buffers()]
        if isinstance(batch, dict) and {"n", "input", "target"} <= batch.keys():
            self._samples.append((batch["n"], batch["input"].sum((1, 2, 3)) + batch["target"].sum((1, 2, 3))))

    def on_before_backward(self, trainer: Trainer, pl_module: LightningModule, loss: Tensor) -> None:
        """Notes the loss of a batch."""
        self._losses.append(loss.detach().float())

    def on_before_optimizer_step(
        self, trainer: Trainer, pl_module: LightningModule, optimizer: torch.optim.Optimizer
    ) -> None:
        """Lets a good step pass; skips any other by removing the gradients.

        Raises:
            Diverged: If the step is to stop the run; all ranks raise it.
        """
        loss, norm = self._measure(trainer, optimizer)
        self._losses = []
        wrong = self._wrong(loss, norm)
        if wrong is None:
            self._note(loss)
            return
        self._skipped, self._in_row = self._skipped + 1, self._in_row + 1
        numbers = self._culprits()
        said = f"step {trainer.global_step + 1}: the {wrong[0]}{f' of samples {numbers}' * bool(numbers)} is {wrong[1]}"
        if self.action == "stop":
            raise _ended(trainer, said, numbers, "--divergence.action skip")
        if self._in_row >= MOST_IN_A_ROW:
            raise _ended(trainer, f"{self._in_row} bad steps in a row, the last is {said}", numbers)
        optimizer.zero_grad(set_to_none=True)
        for buffer, before in zip(pl_module.buffers(), self._buffers, strict=True):
            buffer.copy_(before)
        pl_module.print(f"skipped {said}{_seen_with(trainer, numbers)}")

    def _measure(self, trainer: Trainer, optimizer: torch.optim.Optimizer) -> tuple[float, float]:
        """Returns the step's loss, the mean over batches and ranks, and the norm of its gradient."""
        loss = torch.stack(self._losses).mean() * trainer.accumulate_grad_batches
        parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
        gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
        scaler = getattr(trainer.precision_plugin, "scaler", None)
        if scaler is not None:
            loss, gradients = loss / scaler.get_scale(), []
        norm = whole(torch.nn.utils.get_total_norm(gradients)) if gradients else torch.zeros_like(loss)
        both = torch.stack([loss, norm.to(loss)])
        first, second = trainer.strategy.reduce(both, reduce_op="mean").tolist()
        return first, second

    def _wrong(self, loss: float, norm: float) -> tuple[str, str] | None:
        """Returns what is wrong with a step: which number, and how; None if nothing is."""
        if not math.isfinite(loss):
            return "loss", f"{loss}"
        if not math.isfinite(norm):
            return "gradient", f"{norm}"
        if self.spike is None or self._highest_at_first is None or loss <= self._highest_at_first:
            return None
        middle = median(self._recent)
        if loss <= middle + self.spike * max(max(self._recent) - middle, abs(middle) / 10):
            return None
        return "loss", f"{loss:.3g}, while the last {len(self._recent)} have a median of {middle:.3g}"

    def _note(self, loss: float) -> None:
        self._in_row = 0
        self._recent = [*self._recent[1 - RECENT :], loss]
        if self._highest_at_first is None and len(self._recent) == RECENT:
            self._highest_at_first = max(self._recent)

    def _culprits(self) -> str:
        """Returns the numbers of the step's samples on all ranks: of those that are not finite, or else of all."""
        mine = [
            (int(n), math.isfinite(total))
            for numbers, totals in self._samples
            for n, total in zip(numbers.tolist(), totals.tolist(), strict=True)
        ]
        everyones = gather(mine)
        return ranges([n for n, finite in everyones if not finite] or [n for n, _ in everyones])

    # What a run keeps -------------------------------------------------------------------------------------------------

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Stops at a validation that is not a number, before a checkpoint of it is saved.

        Raises:
            Diverged: If the loss is not finite, or a metric by which a checkpoint is chosen is not a number.
        """
        if trainer.state.fn != "fit" or trainer.sanity_checking:
            return
        watched = {getattr(each, "monitor", None) for each in trainer.checkpoint_callbacks}
        for name, value in trainer.callback_metrics.items():
            if (name in watched and value.isnan()) or (name == "val/loss" and not value.isfinite()):
                raise _ended(trainer, f"the validation at step {trainer.global_step} gives a {name} of {float(value)}")

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        """Refuses to save weights that are not finite.

        Raises:
            Diverged: If the latest weights or the averaged ones are not.
        """
        weights = {name for name, _ in pl_module.named_parameters()}
        for state in (checkpoint["state_dict"], checkpoint.get("current_model_state", {})):
            for name, value in state.items():
                # A buffer may hold an infinity on purpose.
                bad = isinstance(value, Tensor) and (~value.isfinite() if name in weights else value.isnan()).any()
                if bad:
                    raise _ended(trainer, f"{name} is not finite after step {trainer.global_step}, which is not saved")

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Says how many steps the run has skipped."""
        if self._skipped:
            pl_module.print(f"{self._skipped} of {trainer.global_step:,} steps were skipped")


def _ended(trainer: Trainer, what: str, numbers: str = "", cure: str = "a lower --model.lr") -> BaseException:
    """Returns what to raise on every rank: the first one says what and the cure, the others end with the same code."""
    if not trainer.is_global_zero:
        return SystemExit(Diverged.exit_code)
    saved = (Path(trainer.default_root_dir) / "last.ckpt").is_file()
    way = "go on with --ckpt_path last and" if saved else "start again with"
    return Diverged(f"training stopped: {what}; {way} {cure}{_seen_with(trainer, numbers)}")


def _seen_with(trainer: Trainer, numbers: str) -> str:
    """Returns how to see samples, if the run has a config."""
    config = Path(trainer.default_root_dir) / "config.yaml"
    if not numbers or not config.is_file():
        return ""
    return f"; to see them: img2img preview samples.png --config {shlex.quote(str(config))} --samples {numbers}"


def ranges(numbers: Sequence[int]) -> str:
    """Returns numbers as `preview --samples` takes them: ascending, runs of them shortened, such as 7 16-31."""
    ordered = sorted(set(numbers))
    starts = [b for a, b in pairwise([-2, *ordered]) if b != a + 1]
    ends = [a for a, b in pairwise([*ordered, math.inf]) if b != a + 1]
    return " ".join(f"{first}-{last}" if last > first else f"{first}" for first, last in zip(starts, ends, strict=True))
