"""The models that the page offers: checkpoints that were named, then those that come with the program."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from img2img.errors import UserError
from img2img.inference.plan import open_restorer
from img2img.serve.limits import Refused
from img2img.shipped import card_of, shipped_models, summary_of

if TYPE_CHECKING:
    from img2img.tasks import Restoration


USUAL = "denoise_photo"
"""The shipped model that is preferred unless one is named: it hardly changes a picture that needs nothing."""


@dataclass(frozen=True, eq=False)
class Model:
    """A model that restores.

    Attributes:
        name: What the page calls it.
        file: Its weights.
        task: The model itself, in memory.
        summary: A sentence about it; empty for checkpoints.
    """

    name: str
    file: Path | None
    task: Restoration
    summary: str = ""

    def describe(self) -> dict[str, Any]:
        """Returns what the page needs to know of it."""
        return {
            "name": self.name,
            "summary": self.summary,
            "mask": self.task.needs_mask,
            "uncertainty": self.task.estimates_sigma,
            "scale": self.task.scale,
        }


class Shelf:
    """The models by name, all in memory, the first one preferred."""

    def __init__(self, models: Sequence[Model]) -> None:
        self._models = {model.name: model for model in models}

    def __getitem__(self, name: str | None) -> Model:
        """Returns the model of a name; the first one for None or an empty name.

        Raises:
            Refused: If there is no such model; names are never paths.
        """
        if not name:
            return next(iter(self._models.values()))
        if name not in self._models:
            raise Refused(404, f"there is no model {name!r} here; there are {', '.join(self._models)}")
        return self._models[name]

    def describe(self) -> list[dict[str, Any]]:
        """Returns what the page needs to know of each."""
        return [model.describe() for model in self._models.values()]


def open_shelf(models: Sequence[str | Path], trust: Collection[str] = ()) -> Shelf:
    """Opens the models that are named, then all others that come with the program and restore images.

    Raises:
        UserError: If a model that is named does not restore images, or there is none at all.
        CheckpointError: If a file is not a model.
        FileNotFoundError: If there is no such model.
    """
    found: list[Model] = []
    shipped = shipped_models()
    for given in dict.fromkeys(models):
        task, file = open_restorer(given, trust)
        name = str(given) if file in shipped.values() else _short(Path(given), {model.name for model in found})
        found.append(Model(name, file, task, _summary(shipped, name)))
    for name in sorted(shipped, key=lambda name: name != USUAL):
        if name in {model.name for model in found}:
            continue
        try:
            task, file = open_restorer(name)
        except UserError:  # a model of another kind
            continue
        found.append(Model(name, file, task, _summary(shipped, name)))
    if not found:
        raise UserError("this installation has no models; give a checkpoint with --model")
    return Shelf(found)


def _summary(shipped: Mapping[str, Path], name: str) -> str:
    return summary_of(card_of(shipped[name])) if name in shipped else ""


def _short(path: Path, taken: Collection[str]) -> str:
    """Returns the last parts of a path, enough to tell runs apart: `denoise/0/best.ckpt`."""
    name = unique = Path(*path.resolve().parts[-3:]).as_posix()
    count = 2
    while unique in taken:
        unique = f"{name} ({count})"
        count += 1
    return unique
