"""Checks the state of training in a checkpoint before a run continues from it.

Lightning hands on what a file says, and most of it would fail only steps later, or replace methods of its own objects.
"""

from __future__ import annotations

import copy
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch.trainer.connectors.checkpoint_connector import _CheckpointConnector
from torch import Tensor
from torch.optim import Optimizer

from img2img.distributed import is_loss
from img2img.errors import UserError

MOST = 2**53
"""Largest count of anything."""
_LOOPS = {"fit": "fit_loop", "validate": "validate_loop", "test": "test_loop", "predict": "predict_loop"}
_OF_LOADERS = "combined_loader"
"""Key of the states of data loaders that have one; ours have none."""


class Misfit(ValueError):
    """A part of a saved state is not of the kind that it must be; the message names the part."""


class Connector(_CheckpointConnector):
    """Restores a run as Lightning does, from states that fit the run; any other ends in one line.

    Raises:
        UserError: If the state is damaged, or is that of another run.
    """

    def _restore_modules_and_callbacks(self, checkpoint_path: Any = None, weights_only: bool | None = None) -> None:
        with self._one_line(checkpoint_path):
            super()._restore_modules_and_callbacks(checkpoint_path, weights_only)

    def restore_datamodule(self) -> None:
        """Checks and restores the state of the data."""
        data = self.trainer.datamodule  # type: ignore[attr-defined]
        name = type(data).__qualname__
        if data is not None and name in self._loaded_checkpoint:
            check(self._loaded_checkpoint[name], data.state_dict(), "data", same_length=False)
        super().restore_datamodule()

    def restore_callbacks(self) -> None:
        """Checks and restores the states of the callbacks."""
        saved = self._loaded_checkpoint.get("callbacks")
        if saved is not None:
            check(saved, {}, "callbacks")
            for callback in self.trainer.callbacks:  # type: ignore[attr-defined]
                if callback.state_key in saved:
                    name = callback.state_key.split("{")[0]
                    check(saved[callback.state_key], callback.state_dict(), name, same_length=False)
        super().restore_callbacks()

    def restore_training_state(self) -> None:
        """Checks and restores loops, optimizers and schedules."""
        if self._loaded_checkpoint:
            with self._one_line(self._ckpt_path):
                self._check_training_state(self._loaded_checkpoint)
                super().restore_training_state()

    def _check_training_state(self, saved: Mapping[str, Any]) -> None:
        trainer = self.trainer
        loop = _LOOPS[str(trainer.state.fn and trainer.state.fn.value)]
        if saved.get("loops") is not None:
            check(saved["loops"], {loop: getattr(trainer, loop).state_dict()}, "loops")
            check_counts(saved["loops"][loop], getattr(trainer, loop).state_dict(), loop)
        plugin = trainer.precision_plugin
        if type(plugin).__qualname__ in saved:
            check(saved[type(plugin).__qualname__], plugin.state_dict(), "precision")
        if trainer.state.fn != "fit":
            return
        optimizers, schedules = trainer.strategy.optimizers, [one.scheduler for one in trainer.lr_scheduler_configs]
        for name, parts in (("optimizer_states", optimizers), ("lr_schedulers", schedules)):
            check(saved[name], [{}] * len(parts), name)
            if len(saved[name]) != len(parts):
                raise Misfit(f"{name} are {len(saved[name])}, not {len(parts)}")
        for optimizer, state in zip(optimizers, saved["optimizer_states"], strict=True):
            check_optimizer(state, optimizer)
        for schedule, state in zip(schedules, saved["lr_schedulers"], strict=True):
            own = schedule.state_dict()
            check(state, own, "lr_schedulers")
            replaced = [name for name in state if name not in own and hasattr(schedule, name)]
            if replaced:
                raise Misfit(f"lr_schedulers.{replaced[0]} is no part of a state")

    @contextmanager
    def _one_line(self, path: Any) -> Iterator[None]:
        try:
            yield
        except Exception as error:
            known = isinstance(error, UserError | OSError | torch.OutOfMemoryError) or is_loss(error)
            if path is None or known:
                raise
            said = (str(error).strip().splitlines() or [""])[0][:200]
            what = said if isinstance(error, Misfit) else f"{type(error).__name__}: {said}"
            fitting = self.trainer.state.fn == "fit"
            right = f"; --model.weights {path} starts a new run from its weights" if fitting else ""
            raise UserError(
                f"{Path(path)} holds a state that this run cannot take, because it is damaged or another run's "
                f"({what}){right}"
            ) from error


def check(saved: Any, own: Any, place: str, same_length: bool = True) -> None:
    """Checks that a saved state has the kinds of values that an object's own state has.

    Args:
        saved: What a file holds.
        own: The state before it is restored. None may become anything, and keys may be missing or more.
        place: Name of the state, for messages.
        same_length: Whether lists that are not empty must keep their length.

    Raises:
        Misfit: If a value is of another kind, a tensor of another shape, or a list of another length.
    """
    if own is None:
        return
    if isinstance(own, Mapping):
        fits = isinstance(saved, Mapping)
        for name in own.keys() & saved.keys() if fits else ():
            check(saved[name], own[name], f"{place}.{name}", same_length)
    elif isinstance(own, list | tuple):
        fits = isinstance(saved, list | tuple) and (len(saved) == len(own) or not same_length or not own)
        for number, (one, other) in enumerate(zip(saved, own, strict=False) if fits else ()):
            check(one, other, f"{place}[{number}]", same_length)
    elif isinstance(own, Tensor):
        fits = isinstance(saved, Tensor) and saved.shape == own.shape
    elif isinstance(own, int | float) and not isinstance(own, bool):
        fits = _is_number(saved)
    else:
        fits = isinstance(saved, type(own))
    if not fits:
        raise Misfit(f"{place} is {_named(saved)}")


def _is_number(value: Any) -> bool:
    if isinstance(value, Tensor):
        return value.numel() == 1
    return isinstance(value, float) or (isinstance(value, int) and not isinstance(value, bool) and abs(value) < MOST)


def _named(value: Any) -> str:
    if isinstance(value, Tensor):
        return f"a tensor of {tuple(value.shape)}"
    return f"a {type(value).__name__}" if isinstance(value, list | tuple | Mapping) else repr(value)[:40]


def check_counts(saved: Any, own: Any, place: str) -> None:
    """Checks the progress of a loop, which has been checked by `check`: counts only, of what Lightning counts.

    Raises:
        Misfit: If a count is negative, or something is counted that would replace a part of Lightning's objects.
    """
    if not isinstance(own, Mapping):
        if not isinstance(own, bool) and isinstance(own, int) and not (isinstance(saved, int) and saved >= 0):
            raise Misfit(f"{place} is {_named(saved)}")
        return
    for name, value in saved.items():
        if name in own:
            check_counts(value, own[name], f"{place}.{name}")
        elif name != _OF_LOADERS:
            raise Misfit(f"{place}.{name} is nothing that is counted")


def check_optimizer(saved: Any, optimizer: Optimizer) -> None:
    """Checks an optimizer's state: its shapes, then by a step on zeros, which changes nothing of the run.

    A first step without the state shows what tensors the optimizer keeps. Weights of one value stand in for those whose
    saved state consists of single values and of tensors of the weight's shape. Fused steps do not check shapes: a wrong
    one would overwrite other memory.

    Raises:
        Misfit: If the state is for other weights, or has tensors of other shapes.
        Exception: Whatever the optimizer raises if it cannot take a step with the state.
    """
    own = optimizer.state_dict()
    check(saved, {"state": {}, "param_groups": [{}] * len(own["param_groups"])}, "optimizer_states")
    groups, state = saved["param_groups"], saved["state"]
    weights = {
        number: weight
        for group, names in zip(optimizer.param_groups, own["param_groups"], strict=True)
        for number, weight in zip(names["params"], group["params"], strict=True)
    }
    same = [group.get("params") for group in groups] == [group["params"] for group in own["param_groups"]]
    if not same or not state.keys() <= weights.keys() or not all(isinstance(part, dict) for part in state.values()):
        raise Misfit("optimizer_states are of other weights")
    stand_ins = {number: _stand_in(weight, state.get(number, {})) for number, weight in weights.items()}
    small = copy.copy(optimizer)
    small.state = defaultdict(dict)
    small.param_groups = _unfused(optimizer.param_groups)
    for group, names in zip(small.param_groups, own["param_groups"], strict=True):
        group["params"] = [stand_ins[number] for number in names["params"]]
    try:
        small.step()
    except Exception:  # it needs more than gradients
        kept: dict[int, dict[Any, Any]] = {}
    else:
        kept = {number: dict(small.state[stand_in]) for number, stand_in in stand_ins.items()}
    parts = {
        number: {
            name: _small(value, kept.get(number, {}).get(name), weights[number], stand_ins[number])
            for name, value in part.items()
        }
        for number, part in state.items()
    }
    if kept:
        small.load_state_dict({"state": parts, "param_groups": _unfused(copy.deepcopy(groups))})
        small.step()


def _unfused(groups: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Returns the groups with the plainest of torch's implementations, which checks what it is given."""
    return [{**group} | {name: False for name in ("fused", "foreach") if name in group} for group in groups]


def _stand_in(weight: Tensor, part: Mapping[Any, Any]) -> Tensor:
    """Returns zeros with a gradient, for a weight with a saved state."""
    own_shapes = any(isinstance(value, Tensor) and value.numel() > 1 and value.shape != weight.shape
                     for value in part.values())  # fmt: skip
    shape = weight.shape if own_shapes else [1] * weight.dim()
    zeros = torch.zeros(shape, dtype=weight.dtype, device=weight.device, requires_grad=True)
    zeros.grad = torch.zeros_like(zeros)
    return zeros


def _small(value: Any, kept: Any, weight: Tensor, stand_in: Tensor) -> Any:
    """Returns a part of a weight's state for the weight that stands in for it.

    Raises:
        Misfit: If it is a tensor of another shape than the optimizer keeps there.
    """
    if not isinstance(value, Tensor):
        return copy.deepcopy(value)
    if isinstance(kept, Tensor):
        fits = value.shape == (weight.shape if kept.shape == stand_in.shape else kept.shape)
    else:
        fits = value.numel() == 1 or value.shape == weight.shape
    if not fits:
        raise Misfit(f"optimizer_states has a tensor of {tuple(value.shape)} for a weight of {tuple(weight.shape)}")
    if value.shape == weight.shape:
        return torch.zeros(stand_in.shape, dtype=value.dtype)
    return value.clone()
