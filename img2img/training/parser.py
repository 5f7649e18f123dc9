"""The parser of training options: one-line errors, and help that lists only our classes."""

from __future__ import annotations

import re
from argparse import Action
from typing import Any, NoReturn

import albumentations
import jsonargparse._loaders_dumpers as loaders
import torch
from jsonargparse import DefaultHelpFormatter
from lightning.pytorch import LightningDataModule
from lightning.pytorch.cli import LightningArgumentParser
from torch import nn

from img2img.errors import UserError
from img2img.plain_yaml import check_size
from img2img.tasks import Task
from img2img.training.messages import essence, subclasses

NAMED_IN_YAML = (
    Task,
    LightningDataModule,
    nn.Module,
    torch.optim.Optimizer,
    albumentations.BasicTransform,
    albumentations.BaseCompose,
)


class _BoundedLoader(loaders.get_yaml_default_loader()):  # type: ignore[misc]
    """The loader of jsonargparse's YAML (configs, what these refer to, values of flags) with a limit for its size."""

    def __init__(self, stream: str) -> None:
        if len(stream) > 500:  # shorter ones cannot stand for much; jsonargparse reads very many of them
            check_size(stream, "a value")
        super().__init__(stream)


# Its public set_loader reaches the values at the top only.
loaders.yaml_default_loader = _BoundedLoader  # type: ignore[assignment]


class ShortHelp(DefaultHelpFormatter):
    """Names the classes of img2img only, where jsonargparse names every class that torch has."""

    def _expand_help(self, action: Action) -> str:
        return re.sub(r", known subclasses: ([^)]*)", _ours, super()._expand_help(action))


def _ours(found: re.Match[str]) -> str:
    rooms: dict[str, list[str]] = {}
    paths = found[1].split(", ")
    # A task is a module too, but not one that another task would take as its network or loss.
    others = {cls.__name__ for cls in (Task, *subclasses(Task))} if "torch.nn.Module" in paths else set()
    for room, _, name in (path.rpartition(".") for path in paths):
        if room.startswith("img2img.") and room.count(".") == 1 and name not in others:  # what a room exports
            rooms.setdefault(room, []).append(name)
    return "".join(f"; {room}: {', '.join(names)}" for room, names in rooms.items())


class Parser(LightningArgumentParser):
    """An argument parser whose errors are one line."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **{"formatter_class": ShortHelp} | kwargs)

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        """Raises a UserError with the essence of jsonargparse's message, which may run to 70 lines."""
        raise UserError(essence(message, NAMED_IN_YAML)) from ex
