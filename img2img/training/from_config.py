"""Builds the task and the data of a config, for commands that do not train."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import yaml
from lightning.pytorch import LightningDataModule

from img2img.data import PairedData
from img2img.errors import UserError
from img2img.tasks import Task
from img2img.training.messages import essence
from img2img.training.parser import NAMED_IN_YAML, Parser
from img2img.training.preflight import read_current


def task_and_data(config: Path, flags: Sequence[str], seed: int | None = None) -> tuple[Task, PairedData]:
    """Returns the task and the data module of a config.

    Args:
        config: The YAML.
        flags: Options that override it, such as `--data.root=photos`.
        seed: Seed of the stream; None for the config's, or 0.

    Raises:
        UserError: If the data module does not make pairs, or a value is wrong.
    """
    parser = Parser()
    parser.add_lightning_class_args(Task, "model", subclass_mode=True)
    parser.add_lightning_class_args(LightningDataModule, "data", subclass_mode=True)
    settings = read_current(config)
    parts = [f"--{part}={yaml.safe_dump(settings.get(part), default_flow_style=True)}" for part in ("model", "data")]
    parsed = parser.parse_args([*parts, *flags])
    try:
        built = parser.instantiate(parsed)
    except (ValueError, TypeError) as error:
        raise UserError(essence(str(error), NAMED_IN_YAML)) from error
    if not isinstance(built.data, PairedData):
        raise UserError(f"the data must be CorruptedPairs or FolderPairs, not {type(built.data).__name__}")
    if built.data.seed is None:
        built.data.seed = int(settings.get("seed_everything") or 0) if seed is None else seed
    return built.model, built.data
