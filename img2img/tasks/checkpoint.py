"""Reads checkpoints: weights and plain data, without running any code in the file."""

from __future__ import annotations

import pickle
import re
import struct
import warnings
import zipfile
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import LightningModule
from safetensors import SafetensorError
from torch import Tensor, nn

from img2img.errors import UserError
from img2img.shipped import is_safetensors
from img2img.tasks.packed import DamagedFile, read_packed
from img2img.tasks.untrusted import TooLarge, check_archive, check_contents

CHECKPOINT_KEY = "img2img"
CHECKPOINT_FORMAT = 1
OF_TRAINING = {"decay_from": int, "optimizer": str}
"""Entries under `CHECKPOINT_KEY` that only continued training needs, and their types; they may be None."""
_STATE = {"optimizer_states": list, "lr_schedulers": list, "loops": dict, "epoch": int, "global_step": int}
"""Types of the entries that continued training needs, which are Lightning's."""
_DAMAGE = (
    *(EOFError, LookupError, ValueError, TypeError, AttributeError, ArithmeticError, RecursionError, MemoryError),
    *(struct.error, zipfile.BadZipFile),
)
"""Exceptions of a file that is not what it seems to be."""


class CheckpointError(UserError):
    """A checkpoint cannot be opened; the message is one line that says why and what would be right."""


def read_checkpoint(path: Path) -> dict[str, Any]:
    """Reads a checkpoint's tensors and plain data on the CPU; never unpickles anything else.

    Raises:
        CheckpointError: If the file is damaged, holds code, or is not a checkpoint.
        FileNotFoundError: If there is no such file.
    """
    checkpoint = read_weights(path)
    if not isinstance(checkpoint.get("state_dict"), dict):
        raise CheckpointError(f"{path} holds no state_dict; `img2img fit` writes checkpoints")
    return checkpoint


def read_weights(path: Path) -> dict[str, Any]:
    """Reads tensors and plain data on the CPU from a file of `torch.save` or safetensors, whatever its suffix.

    Raises:
        CheckpointError: If the file is damaged, holds code, or does not hold a dictionary.
        FileNotFoundError: If there is no such file.
    """
    if not path.is_file():
        raise FileNotFoundError(f"the checkpoint {path} does not exist")
    if is_safetensors(path):
        try:
            state, about = read_packed(path)
        except DamagedFile as error:
            raise CheckpointError(str(error)) from error
        if about is None:
            return dict(state)
        return {"state_dict": state, CHECKPOINT_KEY: about | {"format": CHECKPOINT_FORMAT}}
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # torch's remarks on files that are rejected below
            check_archive(path)
            contents = torch.load(path, map_location="cpu", weights_only=True)
        check_contents(contents, path.stat().st_size)
    except TooLarge as error:
        raise CheckpointError(f"{path} is not a safe checkpoint: {error}") from error
    except (pickle.UnpicklingError, RuntimeError) as error:
        code = _code_in(str(error))
        if code is None:
            raise CheckpointError(f"{path} is not a checkpoint, or is damaged") from error
        raise CheckpointError(
            f"{path} is not a safe checkpoint (weights and plain data only): it holds {code}, and code in a file is "
            "never run; if you trust it, save its state_dict elsewhere with safetensors.torch.save_file and give that "
            "file"
        ) from error
    # torch reads any file with the suffix .safetensors as one, and this is not.
    except (*_DAMAGE, SafetensorError) as error:
        raise CheckpointError(f"{path} is not a checkpoint, or is damaged") from error
    if not isinstance(contents, dict):
        raise CheckpointError(f"{path} holds no state_dict but a {type(contents).__name__}")
    return contents


def _code_in(refusal: str) -> str | None:
    """Returns the code that `torch.load` found in a file; None if the file is just damaged."""
    if "TorchScript" in refusal:
        return "a TorchScript program"
    found = re.search(r"\bGLOBAL ([\w.]+)", refusal)
    return None if found is None else f"a call of {found[1]}"


def copy_weights(path: Path, network: nn.Module) -> None:
    """Copies the (averaged) network weights of a checkpoint or packed model into a network of the same architecture.

    Raises:
        CheckpointError: If the file is not a checkpoint, or its weights do not fit.
        FileNotFoundError: If there is no such file.
    """
    state: dict[str, Any] = read_checkpoint(path)["state_dict"]
    own = "network."
    weights = {name.removeprefix(own): value for name, value in state.items() if name.startswith(own)}
    check_fit(weights, network, path)
    network.load_state_dict(weights)


def check_weights(path: Path, task: nn.Module, resumes: bool = False) -> None:
    """Checks that a checkpoint's weights fit a task, and if a run is to resume from it, that it holds a run's state.

    Raises:
        CheckpointError: If the file is not a checkpoint, or its weights do not fit.
        FileNotFoundError: If there is no such file.
    """
    checkpoint = read_checkpoint(path)
    check_fit(checkpoint["state_dict"], task, path)
    if not resumes:
        return
    whole = all(isinstance(checkpoint.get(name), kind) for name, kind in _STATE.items())
    about = checkpoint.get(CHECKPOINT_KEY) or {}
    whole = whole and isinstance(checkpoint["loops"].get("fit_loop"), dict) and isinstance(about, dict)
    if not whole or not all(isinstance(about.get(name), kind | None) for name, kind in OF_TRAINING.items()):
        raise CheckpointError(
            f"{path} holds a model, not the state of a run that could resume; --model.weights {path} starts a new run "
            "from it"
        )
    if isinstance(checkpoint.get("current_model_state"), dict):  # beside the averaged weights
        check_fit(checkpoint["current_model_state"], task, path)


def read_recipe(path: Path) -> dict[str, Any] | None:
    """Returns the recipe stored in a checkpoint or packed model, unchecked; None if there is none.

    Raises:
        CheckpointError: If the file is damaged, holds code, or does not hold a dictionary.
        FileNotFoundError: If there is no such file.
    """
    about = read_weights(path).get(CHECKPOINT_KEY)
    recipe = about.get("recipe") if isinstance(about, dict) else None
    return recipe if isinstance(recipe, dict) else None


def load_state(path: Path, task: LightningModule) -> dict[str, Any]:
    """Loads a checkpoint or packed model into a task, and returns the data stored with the weights.

    These are version, recipe, seed and statistics.

    Raises:
        CheckpointError: If the file is damaged or not a checkpoint, or its weights do not fit.
    """
    checkpoint = read_checkpoint(path)
    check_fit(checkpoint["state_dict"], task, path)
    task.load_state_dict(checkpoint["state_dict"])
    task.on_load_checkpoint(checkpoint)
    return dict(checkpoint.get(CHECKPOINT_KEY) or {})


def check_fit(state: dict[str, Any], module: nn.Module, path: Path) -> None:
    """Checks that weights read from a file have a module's names and shapes.

    Raises:
        CheckpointError: If a name or a shape differs.
    """
    own = module.state_dict()
    differing = [name for name in own if name not in state or _shape(state[name]) != own[name].shape]
    differing += [name for name in state if name not in own]
    if differing:
        name = differing[0]
        sizes = [_shape(source[name]) if name in source else "absent" for source in (state, own)]
        raise CheckpointError(
            f"the weights in {path} do not fit this model: {len(differing)} differ, first {name} "
            f"(file: {sizes[0]}, model: {sizes[1]}); the network must be the one that was trained"
        )


def _shape(value: Any) -> tuple[int, ...] | str:
    return tuple(value.shape) if isinstance(value, Tensor) else f"a {type(value).__name__}"
