"""Catches what would spoil a run: losses, gradients and weights that are not finite, and spikes of the first two."""

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
from img2img.tasks import Task
from img2img.tasks.gather import gather

RECENT = 100
"""Losses, and norms of gradients, with which new ones are compared."""
MOST_IN_A_ROW = 10
"""Steps in a row that may be skipped: more are not the fault of their samples."""


class Diverged(UserError):
    """Training has failed, or was asked to stop at the first bad step; the message names the step and its samples."""

    exit_code = 1


class Recent:
    """The last values of a run, with which new ones are compared.

    Args:
        values: The last values, at most `RECENT`.
        highest_at_first: The highest of the run's first `RECENT` values; None before there are so many.
    """

    def __init__(self, values: Sequence[float] = (), highest_at_first: float | None = None) -> None:
        self.values, self.highest_at_first = list(values), highest_at_first

    @classmethod
    def of(cls, state: dict[str, Any]) -> Recent:
        """Returns what `state` has saved."""
        highest = state["highest_at_first"]
        return cls([float(value) for value in state["recent"]], None if highest is None else float(highest))

    def state(self) -> dict[str, Any]:
        """Returns the values as plain data."""
        return {"recent": list(self.values), "highest_at_first": self.highest_at_first}

    def note(self, value: float) -> None:
        """Adds a value."""
        self.values = [*self.values[1 - RECENT :], value]
        if self.highest_at_first is None and len(self.values) == RECENT:
            self.highest_at_first = max(self.values)

    def is_spike(self, value: float, spike: float) -> bool:
        """Returns whether a value is a spike, see `DivergenceGuard`."""
        if self.highest_at_first is None or value <= self.highest_at_first:
            return False
        middle = median(self.values)
        return value > middle + spike * max(max(self.values) - middle, abs(middle) / 10)


class DivergenceGuard(Callback):
    """Skips steps whose loss or gradient is not finite or spikes, or stops at the first one.

    A skipped step leaves weights, optimizer and averaged weights as they were, on all ranks alike, and its samples are
    printed. Training stops after 10 skipped steps in a row, at a checkpoint whose weights are not finite, and at a
    validation that is not a number. With `16-mixed` precision the gradient is left to the scaler of the loss, which
    skips such steps as part of its work.

    Args:
        action: `skip` such steps, or `stop` the run. One bad sample is no reason to lose a night of training, and what
            skipping does not cure still ends the run.
        spike: A loss, or the norm of a gradient, is a spike if it is above the median of the last 100 by more than
            `spike` times as much as any of these (or as a tenth of the median), and above each of the run's first 100.
            A step along a gradient that is suddenly so large may spoil the weights before the loss shows it. None to
            catch only what is not finite.

    Raises:
        ValueError: If the action is unknown, or `spike` not above 1.
    """

    def __init__(self, action: Literal["skip", "stop"] = "skip", spike: float | None = 10.0) -> None:
        if action not in ("skip", "stop"):
            raise ValueError(f"the action of divergence must be skip or stop, not {action}")
        if spike is not None and not spike > 1:
            raise ValueError(f"the spike of divergence must be above 1, not {spike}")
        self.action, self.spike = action, spike
        self._losses_before, self._norms_before = Recent(), Recent()
        self._skipped = self._in_row = 0
        # Of the batches of one step:
        self._losses: list[Tensor] = []
        self._samples: list[tuple[Tensor, Tensor]] = []
        self._before: list[Tensor] = []
        self._batch: Any = None  # the latest
        self._buffers: list[Tensor] = []  # the task's

    def state_dict(self) -> dict[str, Any]:
        """Returns the recent losses and norms, so that a resumed run decides as this one."""
        counts = {"skipped": self._skipped, "in_row": self._in_row}
        return self._losses_before.state() | {"norms": self._norms_before.state()} | counts

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restores the recent losses and norms; checkpoints from before hold no norms."""
        self._losses_before = Recent.of(state_dict)
        self._norms_before = Recent.of(state_dict["norms"]) if "norms" in state_dict else Recent()
        self._skipped, self._in_row = state_dict["skipped"], state_dict["in_row"]

    # A step -----------------------------------------------------------------------------------------------------------

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Finds the buffers, once: walking through all modules at every step takes longer than all else here."""
        self._buffers = list(pl_module.buffers())

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int) -> None:
        """Notes the samples' numbers, and the buffers, which a forward pass may change (batch norm, running means)."""
        if not self._losses:  # the first batch of a step
            self._samples, self._before = [], [buffer.clone() for buffer in self._buffers]
        self._add_up()
        self._batch = batch

    def _add_up(self) -> None:
        """Notes the sum of each sample's values, which shows whether all are finite; forgets the batch.

        Done only for what a step may need: of several accumulated batches, and if something is wrong.
        """
        batch, self._batch = self._batch, None
        if self._losses and isinstance(batch, dict) and {"n", "input", "target"} <= batch.keys():
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
        wrong = self._wrong(loss, norm or 0.0)
        if wrong is None:
            self._in_row, self._losses, self._batch = 0, [], None
            self._losses_before.note(loss)
            self._norms_before.note(norm or 0.0)
            if isinstance(pl_module, Task):
                pl_module.gradient_norm = norm
            return
        self._skipped, self._in_row = self._skipped + 1, self._in_row + 1
        self._add_up()
        self._losses = []
        numbers = self._culprits()
        said = f"step {trainer.global_step + 1}: the {wrong[0]}{f' of samples {numbers}' * bool(numbers)} is {wrong[1]}"
        if self.action == "stop":
            raise _ended(trainer, said, numbers, "--divergence.action skip")
        if self._in_row >= MOST_IN_A_ROW:
            raise _ended(trainer, f"{self._in_row} bad steps in a row, the last is {said}", numbers)
        optimizer.zero_grad(set_to_none=True)
        for buffer, before in zip(self._buffers, self._before, strict=True):
            buffer.copy_(before)
        pl_module.print(f"skipped {said}{_seen_with(trainer, numbers)}")

    def _measure(self, trainer: Trainer, optimizer: torch.optim.Optimizer) -> tuple[float, float | None]:
        """Returns the step's loss, the mean over batches and ranks, and the norm of its gradient.

        The norm is None with a scaler, whose gradients are not measured.
        """
        loss = torch.stack(self._losses).mean() * trainer.accumulate_grad_batches
        parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
        gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
        scaler = getattr(trainer.precision_plugin, "scaler", None)
        if scaler is not None:
            loss, gradients = loss / scaler.get_scale(), []
        norm = whole(torch.nn.utils.get_total_norm(gradients)) if gradients else torch.zeros_like(loss)
        both = torch.stack([loss, norm.to(loss)])
        first, second = trainer.strategy.reduce(both, reduce_op="mean").tolist()
        return first, second if gradients else None

    def _wrong(self, loss: float, norm: float) -> tuple[str, str] | None:
        """Returns what is wrong with a step: which number, and how; None if nothing is."""
        if not math.isfinite(loss):
            return "loss", f"{loss}"
        if not math.isfinite(norm):
            return "gradient", f"{norm}"
        if self.spike is None:
            return None
        for what, value, before in (("loss", loss, self._losses_before), ("gradient", norm, self._norms_before)):
            if before.is_spike(value, self.spike):
                middle = median(before.values)
                return what, f"{value:.3g}, while the last {len(before.values)} have a median of {middle:.3g}"
        return None

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
