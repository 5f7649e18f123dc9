"""Checkpoints on disk: weights and plain data, read without running anything that stands in them."""

from __future__ import annotations

import pickle
import struct
from pathlib import Path
from typing import Any

import torch
from torch import nn

from img2img.errors import UserError

CHECKPOINT_KEY = "img2img"
CHECKPOINT_FORMAT = 1


class CheckpointError(UserError):
    """A checkpoint cannot be opened; one line says why and what would be right."""


def read_checkpoint(path: Path) -> dict[str, Any]:
    """Reads a checkpoint's tensors and plain data on the CPU; never unpickles anything else.

    Raises:
        CheckpointError: If the file is damaged, holds code, or is no checkpoint.
        FileNotFoundError: If there is no such file.
    """
    if not path.is_file():
        raise FileNotFoundError(f"the checkpoint {path} does not exist")
    try:
        checkpoint = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        reason = str(error).strip().splitlines()[0].split(". ")[0]
        raise CheckpointError(f"{path} is not a safe checkpoint (weights and plain data only): {reason}") from error
    except (RuntimeError, EOFError, LookupError, ValueError, TypeError, AttributeError, struct.error) as error:
        raise CheckpointError(f"{path} is not a checkpoint, or is damaged") from error
    if not isinstance(checkpoint, dict) or "state_dict" not in checkpoint:
        raise CheckpointError(f"{path} holds no state_dict; `img2img fit` writes checkpoints")
    return checkpoint


def copy_weights(path: Path, network: nn.Module) -> None:
    """Copies the (averaged) weights of a checkpoint's network into the same network.

    Raises:
        CheckpointError: If the file is no checkpoint, or its weights do not fit.
        FileNotFoundError: If there is no such file.
    """
    state: dict[str, Any] = read_checkpoint(path)["state_dict"]
    prefix = "network."
    weights = {name.removeprefix(prefix): value for name, value in state.items() if name.startswith(prefix)}
    check_fit(weights, network, path)
    network.load_state_dict(weights)


def check_weights(path: Path, task: nn.Module) -> None:
    """Checks that a checkpoint's weights fit a task.

    Raises:
        CheckpointError: If the file is no checkpoint, or its weights do not fit.
        FileNotFoundError: If there is no such file.
    """
    check_fit(read_checkpoint(path)["state_dict"], task, path)


def check_fit(state: dict[str, Any], module: nn.Module, path: Path) -> None:
    """Checks that weights read from a file have a module's names and shapes.

    Raises:
        CheckpointError: If they have not.
    """
    own = module.state_dict()
    differing = [name for name in own if name not in state or state[name].shape != own[name].shape]
    differing += [name for name in state if name not in own]
    if differing:
        name = differing[0]
        sizes = [tuple(source[name].shape) if name in source else "absent" for source in (state, own)]
        raise CheckpointError(
            f"the weights in {path} do not fit this model: {len(differing)} differ, first {name} "
            f"(file: {sizes[0]}, model: {sizes[1]}); the network must be the one that was trained"
        )
