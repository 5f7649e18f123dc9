"""Builds tasks from plain data: `build` from a recipe, `load` from a checkpoint, without running code in the file."""

from __future__ import annotations

import importlib
import inspect
import types
import typing
from collections.abc import Collection
from pathlib import Path
from typing import Any

import torch
from torch import nn

from img2img.shipped import find_model
from img2img.tasks.base import Task
from img2img.tasks.checkpoint import (
    CHECKPOINT_FORMAT,
    CHECKPOINT_KEY,
    OF_TRAINING,
    CheckpointError,
    check_fit,
    read_recipe,
    read_weights,
)
from img2img.tasks.spandrel_models import published
from img2img.tasks.untrusted import TooLarge, bounded_building, values_in

# Not all of torch, whose other modules are not networks. Not torchmetrics: some of its metrics, which are modules too,
# load models by name from a hub, including their code.
TRUSTED_PACKAGES = ("img2img", "torch.nn", "torchvision")

MOST_VALUES, DEEPEST = 10_000, 40
"""The most values, and levels of them, in the recipe of a file; ours have about 30 and 8."""

SHORT_NAMES = ("img2img.tasks", "img2img.networks", "torch.nn")
"""Where `build` looks for class names without a package."""


def build(recipe: dict[str, Any], trust: Collection[str] = ()) -> Task:
    """Builds a task from plain data, so that its checkpoints can be opened with `load`.

    Args:
        recipe: `{"class_path": "Restoration", "init_args": {"network": {"class_path": "RestorationUNet", …}, …}}`.
            Names without a package are those of `img2img.tasks`, `img2img.networks` and `torch.nn`.
        trust: Further packages whose classes may be built, such as `["my_networks"]`.

    Returns:
        The task, with its attribute `recipe` set.

    Raises:
        CheckpointError: If a class path is outside the trusted packages, is not a class, or is one of the wrong type.
    """
    packages, recipe = _trusted(trust), _with_full_names(recipe)
    _check_packages(recipe, packages)  # everything, before the first import
    task = _build(recipe, Task, packages)
    assert isinstance(task, Task)
    task.recipe = _without_weights(recipe)
    return task


def load(model: str | Path, trust: Collection[str] = ()) -> Task:
    """Opens a shipped model, a checkpoint, or the weights of a published restorer.

    Args:
        model: Name of a shipped model, such as `denoise`; or path of a checkpoint of `img2img fit`, of a file of
            `img2img pack`, or of weights that `spandrel` knows (Real-ESRGAN, SwinIR, SCUNet, NAFNet …; .pth, .ckpt or
            .safetensors). The content decides which it is.
        trust: Further packages whose classes the checkpoint may name; by default only classes of img2img, torch.nn and
            torchvision are built, and nothing else is even imported.

    Returns:
        The task in eval mode, on the CPU, with the averaged (EMA) weights; calling it maps N×C×H×W in [0, 1] to
        the same, `scale` times as high and wide.

    Raises:
        CheckpointError: If the file is not one of these, or names a class that is not trusted.
        FileNotFoundError: If there is no such model or file.
        UserError: If the path is a folder.
    """
    path = find_model(model, "model")
    checkpoint = read_weights(path)
    about = checkpoint.get(CHECKPOINT_KEY)
    if not isinstance(about, dict):
        return published(checkpoint, path)
    if about.get("format") != CHECKPOINT_FORMAT or not isinstance(checkpoint.get("state_dict"), dict):
        raise CheckpointError(f"{path} was written by a newer img2img, or is damaged: update img2img and try again")
    recipe = about.get("recipe")
    if not isinstance(recipe, dict):
        raise CheckpointError(
            f"{path} holds no recipe, because img2img.build did not make its task: make the same task with "
            f"img2img.build(recipe), then task.load_state_dict(torch.load({str(path)!r})['state_dict'])"
        )
    try:
        _check_shape(recipe)
        recipe = _without_weights(recipe)
        packages = _trusted(trust)
        _check_packages(recipe, packages)
        with torch.device("meta"), bounded_building(checkpoint["state_dict"].values()):  # shapes without memory
            _try_on_meta(recipe, packages)
        with bounded_building(checkpoint["state_dict"].values()):
            task = build(recipe, trust)
    except (CheckpointError, TooLarge) as error:
        raise CheckpointError(f"{path}: {error}") from error
    check_fit(checkpoint["state_dict"], task, path)
    task.load_state_dict(checkpoint["state_dict"])
    try:
        of_model = {name: value for name, value in about.items() if name not in OF_TRAINING}
        task.on_load_checkpoint({CHECKPOINT_KEY: of_model})
    except (LookupError, TypeError, ValueError, AttributeError, ArithmeticError, RuntimeError) as error:
        raise CheckpointError(f"{path} is damaged: the data stored with its weights cannot be read") from error
    return task.eval()


def _try_on_meta(recipe: dict[str, Any], packages: set[str]) -> None:
    """Builds a task on the meta device, as far as its classes can be built there.

    Raises:
        CheckpointError: If the recipe is wrong.
        TooLarge: If the task is far larger than its weights.
    """
    try:
        _build(recipe, Task, packages)
    except CheckpointError as error:
        # Some constructors compute with values, which that device does not have: they are judged when really built.
        if "meta" not in str(error.__cause__):
            raise


def _with_full_names(value: Any) -> Any:
    """Returns a recipe in which class names without a package have one."""
    if isinstance(value, list | tuple):
        return [_with_full_names(item) for item in value]
    if not isinstance(value, dict):
        return value
    full = {key: _with_full_names(item) for key, item in value.items()}
    name = full.get("class_path")
    if isinstance(name, str) and "." not in name:
        homes = (home for home in SHORT_NAMES if hasattr(importlib.import_module(home), name))
        full["class_path"] = f"{next(homes, SHORT_NAMES[0])}.{name}"
    return full


def _trusted(trust: Collection[str]) -> set[str]:
    """Returns the packages whose classes may be built; a single string is one name, not a list of letters."""
    return {*TRUSTED_PACKAGES, *([trust] if isinstance(trust, str) else trust)}


def _check_shape(recipe: Any) -> None:
    """Checks that a recipe from a file is plain data of the form that `_build` takes.

    Raises:
        CheckpointError: If it is not.
        TooLarge: If it is nested too deeply, or has too many values.
    """
    for value in values_in(recipe, MOST_VALUES, DEEPEST):
        if isinstance(value, dict) and not all(isinstance(key, str) for key in value):
            raise CheckpointError("its recipe has a key that is not a name")
        for key in ("init_args", "dict_kwargs") if isinstance(value, dict) and "class_path" in value else ():
            if not isinstance(value.get(key) or {}, dict):
                kind = type(value[key]).__name__
                raise CheckpointError(f"the {key} of its recipe are not names with values, but of type {kind}")


def network_of(path: Path, within: dict[str, Any]) -> dict[str, Any] | None:
    """Returns the network in a file's recipe; None if there is none, or it names a class that another network does not.

    Args:
        path: A checkpoint or packed model.
        within: The network of a config, `{"class_path": …, "init_args": {…}}`, whose classes alone are trusted.

    Raises:
        CheckpointError: If the file is damaged, or holds code.
        FileNotFoundError: If there is no such file.
    """
    recipe = read_recipe(path)
    if recipe is None:
        return None
    try:
        _check_shape(recipe)
    except (CheckpointError, TooLarge) as error:
        raise CheckpointError(f"{path}: {error}") from error
    network = (recipe.get("init_args") or {}).get("network")
    known = isinstance(network, dict) and "class_path" in network and _classes(network) <= _classes(within)
    return network if known else None


def _classes(value: Any) -> set[str]:
    """Returns all class paths in a recipe."""
    parts = value.values() if isinstance(value, dict) else value if isinstance(value, list | tuple) else ()
    own = {str(value["class_path"])} if isinstance(value, dict) and "class_path" in value else set()
    return own.union(*(_classes(part) for part in parts))


def _without_weights(value: Any, outermost: bool = True) -> Any:
    """Returns a recipe without the files that training started from: its own weights come with it."""
    if isinstance(value, list | tuple):
        return [_without_weights(item, False) for item in value]
    if not isinstance(value, dict):
        return value
    # The outermost class is a task; within it stand classes of others too, whose `weights` may be anything.
    is_task = outermost or str(value.get("class_path")).startswith("img2img.")
    return {
        key: {name: _without_weights(item, False) for name, item in part.items() if not is_task or name != "weights"}
        if key in ("init_args", "dict_kwargs") and isinstance(part, dict)
        else _without_weights(part, False)
        for key, part in value.items()
    }


def _check_packages(value: Any, packages: set[str]) -> None:
    """Rejects any class path outside the packages, anywhere in the recipe."""
    if isinstance(value, dict):
        path = value.get("class_path")
        if path is not None and not (isinstance(path, str) and _is_in(path, packages)):
            raise CheckpointError(
                f"it asks for {path!r}, which is outside the trusted packages ({', '.join(sorted(packages))}); "
                "name its package as trusted if you know where the file comes from"
            )
    parts = value.values() if isinstance(value, dict) else value if isinstance(value, list | tuple) else ()
    for part in parts:
        _check_packages(part, packages)


def _build(recipe: dict[str, Any], expected: type, packages: set[str]) -> object:
    unknown = set(recipe) - {"class_path", "init_args", "dict_kwargs"}
    if unknown or "class_path" not in recipe:
        raise CheckpointError(f"a recipe holds class_path and init_args, not {sorted(recipe)}")
    cls = _find_class(recipe["class_path"], expected, packages)
    asked = _class_parameters(cls)
    given = (recipe.get("init_args") or {}) | (recipe.get("dict_kwargs") or {})
    arguments = {name: _build_value(value, asked.get(name, nn.Module), packages) for name, value in given.items()}
    try:
        return cls(**arguments)
    except CheckpointError:  # of a class within
        raise
    except Exception as error:  # constructors may raise anything on arguments that only look like theirs
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
    """Returns the module classes that a constructor's parameters are annotated with, by parameter."""
    try:
        hints = typing.get_type_hints(inspect.getattr_static(cls, "__init__"))
    except (NameError, TypeError):  # annotations only for type checkers, or no annotations
        return {}
    asked: dict[str, type] = {}
    for name, hint in hints.items():
        options = typing.get_args(hint) if isinstance(hint, types.UnionType) else (hint,)
        classes = [o for o in options if inspect.isclass(o) and issubclass(o, nn.Module)]
        if classes:
            asked[name] = classes[0]
    return asked
