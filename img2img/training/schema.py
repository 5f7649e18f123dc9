"""The JSON schema of the configs, with which editors complete and check them."""

from __future__ import annotations

import inspect
import types
import typing
from collections.abc import Collection, Iterable, Mapping, Sequence
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
from img2img.tasks import Task
from img2img.trainer import Trainer
from img2img.training.cli import CALLBACKS
from img2img.training.parser import Parser

Schema = dict[str, Any]
_PLAIN: dict[Any, Schema] = {
    bool: {"type": "boolean"},
    int: {"type": "integer"},
    float: {"type": "number"},
    str: {"type": "string"},
    Path: {"type": "string"},
    type(None): {"type": "null"},
}
_KINDS: dict[str, tuple[Any, list[types.ModuleType]]] = {
    "task": (Task, [img2img.tasks]),
    "data": (LightningDataModule, [img2img.data]),
    "module": (nn.Module, [img2img.networks, img2img.tasks]),
    "optimizer": (torch.optim.Optimizer, [img2img.tasks, torch.optim]),
    "transform": ((albumentations.BasicTransform, albumentations.BaseCompose), [img2img.corruptions, albumentations]),
}
"""Kind of class: its base, and the modules whose classes are named."""


def schema() -> Schema:
    """Returns the schema (draft 2020-12) of what `img2img fit --config` takes.

    It names the classes of img2img, torch's losses and optimizers, and albumentations' transforms by their short names,
    and accepts any full class path.
    """
    classes = {kind: _classes_of(modules, base) for kind, (base, modules) in _KINDS.items()}
    classes["module"] += _classes_of([nn], nn.modules.loss._Loss)
    properties: Schema = {
        "seed_everything": {"type": ["integer", "boolean"]},
        "ckpt_path": {"type": ["string", "null"]},
        "model": {"$ref": "#/$defs/task"},
        "data": {"$ref": "#/$defs/data"},
        **{name: _arguments_of(cls) for name, cls in {"trainer": Trainer, **CALLBACKS}.items()},
    }
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


def _any_of(classes: Sequence[type]) -> Schema:
    """Returns the schema of one of several classes, given by name alone or with arguments."""
    objects = [
        {
            "type": "object",
            "properties": {"class_path": {"enum": [cls.__name__, _path_of(cls)]}, "init_args": _arguments_of(cls)},
            "required": ["class_path"],
            "additionalProperties": False,
        }
        for cls in classes
    ]
    names = [cls.__name__ for cls in classes]
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
    actions = {action.dest: action for action in parser._actions}
    properties = {}
    for name in (name for name in names if "." not in name):
        hint = getattr(actions[name], "_typehint", None) or actions[name].type
        said = " ".join(str(actions[name].help or "").split())
        properties[name] = _schema_of(hint) | ({"description": said} if said else {})
    return {"type": "object", "properties": properties}


def _schema_of(hint: Any) -> Schema:  # noqa: PLR0911  one return for each kind of hint
    """Returns the schema of a type hint; it accepts anything if JSON has no such type."""
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if hint in _PLAIN:
        return dict(_PLAIN[hint])
    if origin in (typing.Union, types.UnionType):
        return {"anyOf": [_schema_of(each) for each in arguments]}
    if origin is typing.Literal:
        return {"enum": list(arguments)}
    if inspect.isclass(origin) and issubclass(origin, Mapping):
        return {"type": "object", "additionalProperties": _schema_of(arguments[1]) if len(arguments) > 1 else {}}
    if inspect.isclass(origin) and issubclass(origin, Collection):
        item = _schema_of(arguments[0]) if arguments and origin is not tuple else {}
        return {"type": "array", "items": item}
    for name, (base, _) in _KINDS.items():
        if inspect.isclass(hint) and issubclass(hint, base):
            return {"$ref": f"#/$defs/{name}"}
    return {}
