"""The record of a run: its config beside the checkpoints, and in its loggers with its settings and final metrics."""

from __future__ import annotations

import importlib
import inspect
from pathlib import Path
from typing import Any

import yaml
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.loggers import TensorBoardLogger

from img2img.callbacks.checkpoints import run_folder
from img2img.callbacks.collector import boards

Config = dict[str, Any]


class SavedConfig(Callback):
    """Saves the resolved config beside the checkpoints, without the path of the checkpoint that it resumed from.

    Args:
        config: The run's config as plain data.
    """

    def __init__(self, config: Config) -> None:
        self.config = config

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Writes config.yaml into the run's folder."""
        folder = Path(run_folder(trainer))
        if trainer.is_global_zero:
            text = yaml.safe_dump(self.config | {"ckpt_path": None}, sort_keys=False, allow_unicode=True)
            (folder / "config.yaml").write_text(text, encoding="utf-8")


class RunRecord(Callback):
    """Gives the settings to the loggers; TensorBoard gets the config as text, and HParams with the final metrics, too.

    Args:
        config: The run's config as plain data.
    """

    def __init__(self, config: Config) -> None:
        self.config = config

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Gives the settings to the loggers; TensorBoard's writes them once, before training, as hparams.yaml."""
        for logger in trainer.loggers:
            if isinstance(logger, TensorBoardLogger):
                logger.hparams.update(self._settings(trainer))
            else:
                logger.log_hyperparams(self._settings(trainer))

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Writes the config as a YAML block."""
        text = yaml.safe_dump(self.config, sort_keys=False)
        for board in boards(trainer) if trainer.is_global_zero else []:
            board.add_text("config", f"```yaml\n{text}```")

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Writes the settings and the final validation's metrics to the HParams tab."""
        for logger in trainer.loggers if trainer.is_global_zero else []:
            if not isinstance(logger, TensorBoardLogger):
                continue
            final = {name: float(v) for name, v in trainer.callback_metrics.items() if name.startswith("val/")}
            # Under separate names: the logger writes them as scalars too, which would disturb the curves.
            metrics = {name.replace("val/", "final/", 1): value for name, value in final.items()}
            rate = {"lr": trainer.optimizers[0].param_groups[0]["initial_lr"]}
            logger.log_hyperparams(rate | self._settings(trainer), metrics)

    def _settings(self, trainer: Trainer) -> dict[str, Any]:
        """Returns the length of the run and what was chosen, without how it is measured."""
        settings = flatten(
            without_defaults({key: self.config.get(key) for key in ("seed_everything", "model", "data")})
        )
        chosen = {key: value for key, value in settings.items() if not key.startswith("data.evaluation")}
        return {"max_steps": trainer.max_steps} | chosen


def without_defaults(tree: Any) -> Any:
    """Returns nested settings without the arguments that have the default of their class."""
    if isinstance(tree, list):
        return [without_defaults(item) for item in tree]
    if not isinstance(tree, dict):
        return tree
    kept = tree
    if "class_path" in tree:
        given, defaults = tree.get("init_args") or {}, _defaults(tree["class_path"])
        kept = tree | {"init_args": {key: given[key] for key in given if given[key] != defaults.get(key, ...)}}
    return {key: without_defaults(value) for key, value in kept.items()}


def _defaults(class_path: str) -> dict[str, Any]:
    """Returns the defaults of a class's arguments, and of those that it passes on to its bases."""
    module, _, name = class_path.rpartition(".")
    found: dict[str, Any] = {}
    for base in reversed(getattr(getattr(importlib.import_module(module), name), "__mro__", ())):  # a function has none
        found |= {key: parameter.default for key, parameter in inspect.signature(base.__init__).parameters.items()}
    return {key: list(value) if isinstance(value, tuple) else value for key, value in found.items()}


def flatten(tree: Any, prefix: str = "") -> dict[str, Any]:
    """Flattens nested settings to `model.network.channels: "[48, 96, 192]"`; class paths become class names."""
    if not isinstance(tree, dict):
        scalar = isinstance(tree, bool | int | float | str)
        return {prefix: tree if scalar else yaml.safe_dump(tree, default_flow_style=True).strip().removesuffix("\n...")}
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        if value is None:
            continue
        if key == "class_path":
            flat[prefix or key] = str(value).rpartition(".")[2]
        elif key == "init_args":
            flat |= flatten(value, prefix)
        else:
            flat |= flatten(value, f"{prefix}.{key}" if prefix else key)
    return flat
