"""The one subclass of LightningCLI: subclass mode, our defaults, run folders, recipes, errors of one line."""

from __future__ import annotations

import copy
import logging
import os
import warnings
from pathlib import Path
from typing import Any, NoReturn

import albumentations
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch import LightningDataModule
from lightning.pytorch.callbacks import LearningRateMonitor
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI, SaveConfigCallback
from lightning.pytorch.loggers import TensorBoardLogger
from lightning.pytorch.utilities import rank_zero_only
from torch import nn

import img2img.data
import img2img.networks  # noqa: F401  short class names in YAML are found among what is imported
from img2img.callbacks import (
    AveragedWeights,
    BestCheckpoint,
    FinalValidation,
    ImageWriter,
    LastCheckpoint,
    Progress,
    ReconstructionGrid,
    RunRecord,
    Throughput,
)
from img2img.callbacks.checkpoints import run_folder
from img2img.commands.arguments import Arguments
from img2img.commands.messages import essence
from img2img.commands.restore import check_folders, check_mask
from img2img.commands.runs import claim_run
from img2img.commands.trainer import Trainer
from img2img.errors import UserError
from img2img.tasks import Restoration, Task
from img2img.tasks.checkpoint import check_weights

TRAINER_DEFAULTS = {
    "val_check_interval": 100,  # batches, counted through the epochs:
    "check_val_every_n_epoch": None,
    "num_sanity_val_steps": 0,  # a new network returns its input; the first validation comes soon enough
    "log_every_n_steps": 10,
    "enable_model_summary": False,
    "gradient_clip_val": 1.0,
}


NAMED_IN_YAML = (
    Task,
    LightningDataModule,
    nn.Module,
    albumentations.BasicTransform,
    albumentations.BaseCompose,
)


class Parser(LightningArgumentParser):
    """An argument parser that says what is wrong in one line."""

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        """Ends the program with code 2 and the essence of jsonargparse's message, which may run to 70 lines."""
        raise UserError(essence(message, NAMED_IN_YAML)) from ex


class SaveConfig(SaveConfigCallback):
    """Saves the resolved config beside the checkpoints, for `fit` only: what other commands resolve would not run."""

    def setup(self, trainer: Any, pl_module: Any, stage: str) -> None:
        """Writes config.yaml into the run's folder, without the checkpoint that this run began from."""
        folder = Path(run_folder(trainer))
        if trainer.state.fn == "fit" and trainer.is_global_zero:
            config = self.config.clone()
            config["ckpt_path"] = None
            self.parser.save(config, folder / self.config_filename, skip_none=False, overwrite=True)


class CLI(LightningCLI):
    """Runs one of fit, validate, test, predict.

    Args:
        command: Which.
        argv: Its arguments.
        arguments: What was already learnt of them; None to show the help only.
    """

    def __init__(self, command: str, argv: list[str], arguments: Arguments | None) -> None:
        self.command, self.arguments = command, arguments
        self.run_folder: Path | None = None
        _quieten()
        super().__init__(
            model_class=Task,
            datamodule_class=LightningDataModule,
            subclass_mode_model=True,
            subclass_mode_data=True,
            save_config_callback=SaveConfig,
            trainer_class=Trainer,
            trainer_defaults=TRAINER_DEFAULTS,
            seed_everything_default=0,
            parser_class=Parser,
            auto_configure_optimizers=False,
            load_from_checkpoint_support=False,  # checkpoints hold our own recipe instead of hyperparameters
            args=[command, *argv],
        )

    def subcommands(self) -> dict[str, set[str]]:  # type: ignore[override]
        """Returns the one command at hand: building the parsers of all four takes four times as long."""
        return {self.command: LightningCLI.subcommands()[self.command]}

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Adds the callbacks that every run has, each with its own options."""
        parser.add_lightning_class_args(AveragedWeights, "average")
        parser.add_lightning_class_args(BestCheckpoint, "best")
        parser.add_lightning_class_args(LastCheckpoint, "last")
        parser.add_lightning_class_args(ReconstructionGrid, "grid")
        parser.add_lightning_class_args(ImageWriter, "output")

    def _prepare_subcommand_parser(self, klass: type, subcommand: str, **kwargs: Any) -> LightningArgumentParser:
        parser = super()._prepare_subcommand_parser(klass, subcommand, **kwargs)
        parser.set_defaults({"weights_only": True})
        if subcommand == "predict":
            parser.set_defaults({"return_predictions": False})
        return parser

    def _parse_ckpt_path(self) -> None:
        """Leaves the config as it is: Lightning would let a checkpoint's hyperparameters replace what was asked for."""

    def instantiate_classes(self) -> None:
        """Builds task, data and trainer; gives the task its recipe and the data the run's seed."""
        self._dump_config()
        try:
            super().instantiate_classes()
        except (ValueError, TypeError, MisconfigurationException) as error:
            raise UserError(essence(str(error), NAMED_IN_YAML)) from error
        if self.subcommand == "predict" and getattr(self.datamodule, "predict_dir", "") is None:
            raise UserError("predict needs --data.predict_dir, the folder of the images to restore")
        if self.subcommand == "predict" and hasattr(self.datamodule, "predict_dir"):
            images, mask = (
                Path(self.datamodule.predict_dir).expanduser(),
                getattr(self.datamodule, "predict_mask", None),
            )
            check_folders(images, Path(self._get(self.config, "output").folder), mask)
            check_mask(self.model, mask, "--data.predict_mask")
        checkpoint = self._get(self.config, "ckpt_path")
        if checkpoint is not None:
            check_weights(Path(checkpoint), self.model)
        recipe = copy.deepcopy(self.config_dump["model"])
        (recipe.get("init_args") or {}).pop("weights", None)  # where training began is not what the task is
        self.model.recipe = recipe
        seed = self._get(self.config, "seed_everything")
        if getattr(self.datamodule, "seed", 0) is None:
            self.datamodule.seed = int(seed) if seed else 0

    def instantiate_trainer(self, **kwargs: Any) -> Trainer:
        """Builds the trainer: `fit` in a run's folder with TensorBoard, the others without."""
        if self.subcommand == "fit" and self.arguments is not None:
            asked = self._get(self.config_init, "trainer")
            first = getattr(rank_zero_only, "rank", 0) == 0 and os.environ.get("NODE_RANK", "0") == "0"
            if not asked.get("fast_dev_run"):
                resumed = self.arguments.resumed
                self.run_folder = resumed or claim_run(self.arguments.root, self.arguments.name, first)
                kwargs["default_root_dir"] = str(self.run_folder)
                if asked.get("logger") in (None, True):
                    kwargs["logger"] = run_logger(self.run_folder)
        elif self._get(self.config_init, "trainer").get("logger") is None:
            kwargs["logger"] = False
        trainer = super().instantiate_trainer(**kwargs)
        assert isinstance(trainer, Trainer)
        return trainer

    def _instantiate_trainer(self, config: dict[str, Any], callbacks: list[Any]) -> Any:
        config["callbacks"] = list(config.get("callbacks") or [])
        if self.subcommand == "fit":
            callbacks = [c for c in callbacks if not isinstance(c, ImageWriter)]
            callbacks += [FinalValidation(), Throughput()]
            if config.get("logger") is not False:
                callbacks += [RunRecord(self.config_dump), LearningRateMonitor("step")]
        elif self.subcommand == "predict":
            callbacks = [c for c in callbacks if isinstance(c, ImageWriter)]
        else:
            callbacks = []
        if config.get("enable_progress_bar") is not False:
            callbacks.append(Progress())
        return super()._instantiate_trainer(config, callbacks)

    def after_fit(self) -> None:
        """Says in the last line where everything is."""
        if self.run_folder is None or not self.trainer.is_global_zero:
            return
        means = {name.removeprefix("val/"): float(value) for name, value in self.trainer.callback_metrics.items()}
        caption = self.model.headline.caption(means) if isinstance(self.model, Restoration) else ""
        score = f"val {caption}; " if caption else ""
        folder = self.run_folder
        files = (("checkpoint", "best.ckpt"), ("last", "last.ckpt"), ("grid", "grid.png"))
        there = [f"{what} {folder / name}" for what, name in files if (folder / name).exists()]
        root = self.arguments.root if self.arguments else folder
        watch = "img2img watch" if str(root) == "runs" else f"img2img watch {root}"
        print(f"\nDone: {score}{', '.join(there)}; TensorBoard: {watch}")

    def after_predict(self) -> None:
        """Says how many images were written, and fails if some were not."""
        for callback in self.trainer.callbacks:  # type: ignore[attr-defined]
            if isinstance(callback, ImageWriter):
                callback.conclude(self.trainer.is_global_zero)


def run_logger(folder: Path) -> TensorBoardLogger:
    """Returns TensorBoard's logger, which writes into a run's folder."""
    root = folder.parent.parent
    return TensorBoardLogger(str(root), name=folder.parent.name, version=folder.name, default_hp_metric=False)


def _quieten() -> None:
    """Silences what Lightning says to its developers; each line has its reason."""
    ignored = (
        r".*smaller than the logging interval",  # very short runs
        "LightningCLI's args parameter",  # we rewrite the arguments, and mean it
        r".*does not have many workers",  # none on CPUs is our measured choice
        r".*Checkpoint directory .* exists and is not empty",  # a run that goes on
        r".*You're using the WeightAveraging callback, but loading a checkpoint outside",  # as meant
        r".*callbacks used to create the checkpoint need to be provided",  # measuring needs none of them
        r".*your dataloader is not resumable",  # the sample stream is: see data/stream.py
        r".*The dirpath has changed",  # a run that starts from another run's checkpoint
        r".*predict returned None",  # padding and unreadable files
        r"(?s).*JsonargparseDeprecationWarning|.*was deprecated in v4",  # Lightning calls jsonargparse's old names
        r"(?s).*Dump of a value that does not round-trip",  # albumentations' tuples: lists are as good
        r".*isinstance\(treespec, LeafSpec\)",  # Lightning on a newer torch
        r".*`lr_scheduler.step\(\)` before `optimizer.step\(\)`",  # at resuming; Lightning #5558
    )
    for message in ignored:
        warnings.filterwarnings("ignore", message=message)
    logging.getLogger("lightning.pytorch.utilities.rank_zero").setLevel(logging.WARNING)
    logging.getLogger("lightning.fabric.utilities.seed").setLevel(logging.WARNING)
