"""The record of a run in TensorBoard: its config as text, and its settings beside its final metrics."""

from __future__ import annotations

from typing import Any

import yaml
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.loggers import TensorBoardLogger

Config = dict[str, Any]


class RunRecord(Callback):
    """Writes the resolved config as text when training starts, and HParams with the final metrics when it ends.

    Args:
        config: The run's config as plain data.
    """

    def __init__(self, config: Config) -> None:
        self.config = config

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Writes the config as a YAML block."""
        if trainer.is_global_zero and isinstance(trainer.logger, TensorBoardLogger):
            text = yaml.safe_dump(self.config, sort_keys=False)
            trainer.logger.experiment.add_text("config", f"```yaml\n{text}```")
            trainer.logger.hparams.update(self._settings())  # hparams.yaml, which the logger writes once

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Writes the settings and the final validation's metrics to the HParams tab."""
        if trainer.is_global_zero and isinstance(trainer.logger, TensorBoardLogger):
            final = {name: float(v) for name, v in trainer.callback_metrics.items() if name.startswith("val/")}
            # Under separate names: the logger writes them as scalars too, which would disturb the curves.
            metrics = {name.replace("val/", "final/", 1): value for name, value in final.items()}
            trainer.logger.log_hyperparams(self._settings(), metrics)

    def _settings(self) -> dict[str, Any]:
        return flatten({key: self.config.get(key) for key in ("seed_everything", "model", "data")})


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
