"""The JSON schema of the configs, with which editors complete and check them."""

from __future__ import annotations

import inspect
import types
import typing
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import Any

import albumentations
import torch
from lightning.pytorch import LightningDataModule
from torch import nn

import img2img.corruptions
import img2img.data
import img2img.networks
import img2img.tasks
from img2img.callbacks import AveragedWeights, BestCheckpoint, LastCheckpoint, ReconstructionGrid
from img2img.tasks import Task
from img2img.trainer import Trainer
from img2img.training.cli import Parser

Schema = dict[str, Any]
_PLAIN: dict[Any, Schema] = {
    bool: {"type": "boolean"},
    int: {"type": "integer"},
    float: {"type": "number"},
    str: {"type": "string"},
    Path: {"type": "string"},
    type(None): {"type": "null"},
}
_GROUPS = {"average": AveragedWeights, "best": BestCheckpoint, "last": LastCheckpoint, "grid": ReconstructionGrid}
_BASES = {
    "task": Task,
    "data": LightningDataModule,
    "module": nn.Module,
    "optimizer": torch.optim.Optimizer,
    "transform": albumentations.BasicTransform,
}


def schema() -> Schema:
    """Returns the schema (draft 2020-12) of what `img2img fit --config` takes.

    It names the classes of img2img, torch's losses and optimizers, and albumentations' transforms by their short names,
    and accepts any full class path.
    """
    classes = {
        "task": _classes_of([img2img.tasks], Task),
        "data": _classes_of([img2img.data], LightningDataModule),
        "module": _classes_of([img2img.networks, img2img.tasks], nn.Module) + _classes_of([nn], nn.modules.loss._Loss),
        "optimizer": _classes_of([img2img.tasks, torch.optim], torch.optim.Optimizer),
        "transform": _classes_of(
            [img2img.corruptions, albumentations], (albumentations.BasicTransform, albumentations.BaseCompose)
        ),
    }
    properties: Schema = {
        "seed_everything": {"type": ["integer", "boolean"]},
        "ckpt_path": {"type": ["string", "null"]},
    }
    properties |= {"model": {"$ref": "#/$defs/task"}, "data": {"$ref": "#/$defs/data"}}
    properties |= {name: _arguments_of(cls) for name, cls in {"trainer": Trainer, **_GROUPS}.items()}
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "img2img config",
        "type": "object",
        "properties": properties,
        "additionalProperties": False,
        "$defs": {name: _any_of(found) for name, found in classes.items()},
    }


def _classes_of(modules: Iterable[types.ModuleType], base: type | tuple[type, ...]) -> list[type]:
    """Returns the public classes of modules that derive from a base, ordered by name."""
    found = {
        name: cls
        for module in modules
        for name, cls in vars(module).items()
        if inspect.isclass(cls) and issubclass(cls, base) and not inspect.isabstract(cls) and not name.startswith("_")
    }
    return [found[name] for name in sorted(found)]


def _any_of(classes: Iterable[type]) -> Schema:
    """Returns the schema of one of several classes, given by name alone or with arguments."""
    known = list(classes)
    names = [cls.__name__ for cls in known]
    objects = [
        {
            "type": "object",
            "properties": {"class_path": {"enum": [cls.__name__, _path_of(cls)]}, "init_args": _arguments_of(cls)},
            "required": ["class_path"],
            "additionalProperties": False,
        }
        for cls in known
    ]
    other = {
        "type": "object",
        "properties": {"class_path": {"type": "string", "pattern": r"\."}, "init_args": {"type": "object"}},
        "required": ["class_path"],
    }
    return {"anyOf": [{"enum": names}, {"type": "string", "pattern": r"\."}, *objects, other]}


def _path_of(cls: type) -> str:
    package = cls.__module__.split(".")
    return f"{'.'.join(package[:2])}.{cls.__name__}" if package[0] == "img2img" else f"{cls.__module__}.{cls.__name__}"


def _arguments_of(cls: type) -> Schema:
    """Returns the schema of a class's arguments, including those that it passes to its base classes."""
    parser = Parser(add_help=False)
    try:
        names = parser.add_class_arguments(cls, fail_untyped=False)
    except (ValueError, TypeError):  # a class whose signature cannot be read
        return {"type": "object"}
    hints = {action.dest: getattr(action, "_typehint", None) or action.type for action in parser._actions}
    helps = {action.dest: action.help for action in parser._actions}
    properties = {}
    for name in (name for name in names if "." not in name):
        said = " ".join(str(helps.get(name) or "").split())
        properties[name] = schema_of(hints.get(name)) | ({"description": said} if said else {})
    return {"type": "object", "properties": properties}


def schema_of(hint: Any) -> Schema:  # noqa: PLR0911  one return for each kind of hint
    """Returns the schema of a type hint; it accepts anything if JSON has no such type."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if hint in _PLAIN:
        return dict(_PLAIN[hint])
    if origin in (typing.Union, types.UnionType):
        return {"anyOf": [schema_of(each) for each in arguments]}
    if origin is typing.Literal:
        return {"enum": list(arguments)}
    if origin is not None and inspect.isclass(origin) and issubclass(origin, Mapping):
        return {"type": "object", "additionalProperties": schema_of(arguments[1]) if len(arguments) > 1 else {}}
    if origin is not None and inspect.isclass(origin) and issubclass(origin, Collection):
        item = schema_of(arguments[0]) if arguments and origin is not tuple else {}
        return {"type": "array", "items": item}
    for name, base in _BASES.items():
        if inspect.isclass(hint) and issubclass(hint, base):
            return {"$ref": f"#/$defs/{name}"}
    return {}
