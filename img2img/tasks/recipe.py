"""Tasks from plain data: `build` makes one from a recipe, `load` from a checkpoint, and nothing in a file runs code."""

from __future__ import annotations

import importlib
import inspect
import pickle
import struct
import types
import typing
from collections.abc import Collection
from pathlib import Path
from typing import Any

import torch
from torch import nn

from img2img.errors import UserError
from img2img.tasks.base import CHECKPOINT_FORMAT, CHECKPOINT_KEY, Task

# Not all of torch, whose other modules are no networks; and not torchmetrics, some of whose metrics, which are modules
# too, load models by name from a hub, with the code that comes with them.
TRUSTED_PACKAGES = ("img2img", "torch.nn", "torchvision")


class CheckpointError(UserError):
    """A checkpoint cannot be opened; one line says why and what would be right."""


def build(recipe: dict[str, Any], trust: Collection[str] = ()) -> Task:
    """Builds a task from plain data, so that its checkpoints can be opened with `load`.

    Args:
        recipe: `{"class_path": "img2img.tasks.Restoration", "init_args": {"network": {"class_path": …}, …}}`.
        trust: Further packages whose classes may be built, such as `["my_networks"]`.

    Returns:
        The task, with `recipe` kept on it.

    Raises:
        CheckpointError: If a class is not in a trusted package, is no class, or is not what its place asks for.
    """
    packages = {*TRUSTED_PACKAGES, *trust}
    _check_packages(recipe, packages)  # everything, before the first import
    task = _build(recipe, Task, packages)
    assert isinstance(task, Task)
    task.recipe = recipe
    return task


def load(model: str | Path, trust: Collection[str] = ()) -> Task:
    """Opens a checkpoint.

    Args:
        model: Path of a checkpoint that `img2img fit` wrote.
        trust: Further packages whose classes the checkpoint may name; by default only img2img's, torch.nn's and
            torchvision's are built, and nothing else is even imported.

    Returns:
        The task in eval mode, on the CPU, with the averaged (EMA) weights; calling it maps N×C×H×W in [0, 1] to
        the same.

    Raises:
        CheckpointError: If the file is not such a checkpoint, or names a class that is not trusted.
        FileNotFoundError: If there is no such file.
    """
    path = Path(model)
    checkpoint = read_checkpoint(path)
    about = checkpoint.get(CHECKPOINT_KEY)
    if not isinstance(about, dict) or about.get("format") != CHECKPOINT_FORMAT:
        raise CheckpointError(f"{path} is not a checkpoint of img2img (or of a newer one); `img2img fit` writes them")
    recipe = about.get("recipe")
    if not isinstance(recipe, dict):
        raise CheckpointError(f"{path} holds no recipe: its task was built by hand; make it with img2img.build(recipe)")
    try:
        task = build(recipe, trust)
    except CheckpointError as error:
        raise CheckpointError(f"{path}: {error}") from error
    _check_fit(checkpoint["state_dict"], task, path)
    task.load_state_dict(checkpoint["state_dict"])
    return task.eval()


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


def copy_weights(path: Path, task: Task) -> None:
    """Copies a checkpoint's (averaged) weights of the network into a task with the same network.

    Raises:
        CheckpointError: If the file is no checkpoint, or its weights do not fit the task.
        FileNotFoundError: If there is no such file.
    """
    state: dict[str, Any] = read_checkpoint(path)["state_dict"]
    prefix = "network."
    network = {name.removeprefix(prefix): value for name, value in state.items() if name.startswith(prefix)}
    _check_fit(network, task.network, path)
    task.network.load_state_dict(network)


def check_weights(path: Path, task: Task) -> dict[str, Any]:
    """Returns a checkpoint's weights if they fit a task.

    Raises:
        CheckpointError: If the file is no checkpoint, or its weights do not fit the task.
        FileNotFoundError: If there is no such file.
    """
    state: dict[str, Any] = read_checkpoint(path)["state_dict"]
    _check_fit(state, task, path)
    return state


def _check_fit(state: dict[str, Any], module: nn.Module, path: Path) -> None:
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


def _check_packages(value: Any, packages: set[str]) -> None:
    """Refuses any class path outside the packages, wherever in the recipe it stands."""
    if isinstance(value, dict):
        path = value.get("class_path")
        if path is not None and not (isinstance(path, str) and _is_in(path, packages)):
            raise CheckpointError(
                f"it asks for {path!r}, which is outside the trusted packages ({', '.join(sorted(packages))}); "
                "name its package as trusted if you know where the file comes from"
            )
        for item in value.values():
            _check_packages(item, packages)
    elif isinstance(value, list | tuple):
        for item in value:
            _check_packages(item, packages)


def _build(recipe: dict[str, Any], expected: type, packages: set[str]) -> object:
    unknown = set(recipe) - {"class_path", "init_args", "dict_kwargs"}
    if unknown or "class_path" not in recipe:
        raise CheckpointError(f"a recipe holds class_path and init_args, not {sorted(recipe)}")
    cls = _find_class(recipe["class_path"], expected, packages)
    expectations = _class_parameters(cls)
    given = (recipe.get("init_args") or {}) | (recipe.get("dict_kwargs") or {})
    arguments = {
        name: _build_value(value, expectations.get(name, nn.Module), packages) for name, value in given.items()
    }
    try:
        return cls(**arguments)
    except (TypeError, ValueError) as error:
        raise CheckpointError(f"{recipe['class_path']} does not take these arguments: {error}") from error


def _build_value(value: Any, expected: type, packages: set[str]) -> Any:
    if isinstance(value, dict):
        if "class_path" in value:
            return _build(value, expected, packages)
        return {key: _build_value(item, nn.Module, packages) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_build_value(item, nn.Module, packages) for item in value]
    return value


def _is_in(path: str, packages: set[str]) -> bool:
    return any(path == package or path.startswith(package + ".") for package in packages)


def _find_class(path: str, expected: type, packages: set[str]) -> type:
    module_name, _, name = path.rpartition(".")
    try:
        found = getattr(importlib.import_module(module_name), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise CheckpointError(f"it asks for {path}, which does not exist here") from error
    # A name in a trusted module may be a function (torch.hub.load), or something that module merely imported.
    if not inspect.isclass(found) or not _is_in(found.__module__, packages):
        raise CheckpointError(f"it asks for {path}, which is not a class of a trusted package")
    if not issubclass(found, expected):
        raise CheckpointError(f"it asks for {path}, which is not a {expected.__name__}")
    return found


def _class_parameters(cls: type) -> dict[str, type]:
    """Returns the classes that a constructor's parameters ask for, where they ask for modules."""
    try:
        hints = typing.get_type_hints(inspect.getattr_static(cls, "__init__"))
    except (NameError, TypeError):  # annotations that exist for type checkers only, or none
        return {}
    asked: dict[str, type] = {}
    for name, hint in hints.items():
        options = typing.get_args(hint) if isinstance(hint, types.UnionType) else (hint,)
        classes = [o for o in options if inspect.isclass(o) and issubclass(o, nn.Module)]
        if classes:
            asked[name] = classes[0]
    return asked
