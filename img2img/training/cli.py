"""The subclass of LightningCLI: subclass mode, our defaults, run folders, recipes, one-line errors."""

from __future__ import annotations

import copy
import os
from pathlib import Path
from typing import Any, NoReturn

import albumentations
import torch
import torch.distributed as dist
from jsonargparse import dict_to_namespace
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch import LightningDataModule
from lightning.pytorch.callbacks import LearningRateMonitor
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI, SaveConfigCallback
from lightning.pytorch.loggers import TensorBoardLogger
from lightning.pytorch.utilities import rank_zero_only, rank_zero_warn
from torch import nn

import img2img.data
import img2img.networks  # noqa: F401  short class names in YAML are found among imported classes
from img2img.anomaly.calibration import calibrate_checkpoint
from img2img.anomaly.scorable import Scorable
from img2img.callbacks import (
    AveragedWeights,
    BestCheckpoint,
    FinalValidation,
    LastCheckpoint,
    LatentPictures,
    LatentProjector,
    Opening,
    PCABaseline,
    Progress,
    ReconstructionGrid,
    RunRecord,
    Throughput,
)
from img2img.callbacks.checkpoints import run_folder
from img2img.data import PairedData
from img2img.errors import UserError
from img2img.inference.options import Options
from img2img.inference.plan import plan_run
from img2img.inference.report import RestoreResult
from img2img.inference.run import restore, run_plan
from img2img.latents.runner import Devices
from img2img.shipped import find_model, is_safetensors
from img2img.tasks import Autoencoder, PairedTask, Restoration, Task
from img2img.tasks.checkpoint import check_weights, load_state, read_recipe
from img2img.trainer import Trainer, quieten
from img2img.training.messages import essence
from img2img.training.preflight import Arguments
from img2img.training.runs import claim_run

TRAINER_DEFAULTS = {
    "val_check_interval": 100,  # batches, counted across epochs:
    "check_val_every_n_epoch": None,
    "num_sanity_val_steps": 0,  # a new network returns its input; the first validation comes soon enough
    "log_every_n_steps": 10,
    "enable_model_summary": False,
    "gradient_clip_val": 1.0,
}

_OF_THE_TRAINER = ("model", "accelerator", "devices", "num_nodes", "precision", "trust", "progress")
NAMED_IN_YAML = (
    Task,
    LightningDataModule,
    nn.Module,
    torch.optim.Optimizer,
    albumentations.BasicTransform,
    albumentations.BaseCompose,
)


class Parser(LightningArgumentParser):
    """An argument parser whose errors are one line."""

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        """Raises a UserError with the essence of jsonargparse's message, which may run to 70 lines."""
        raise UserError(essence(message, NAMED_IN_YAML)) from ex


class SaveConfig(SaveConfigCallback):
    """Saves the resolved config beside the checkpoints, for `fit` only: other commands' would not run."""

    def setup(self, trainer: Any, pl_module: Any, stage: str) -> None:
        """Writes config.yaml into the run's folder, without the path of the checkpoint that it resumed from."""
        folder = Path(run_folder(trainer))
        if trainer.state.fn == "fit" and trainer.is_global_zero:
            config = self.config.clone()
            config["ckpt_path"] = None
            self.parser.save(config, folder / self.config_filename, skip_none=False, overwrite=True)


class CLI(LightningCLI):
    """Runs one of fit, validate, test, predict.

    Args:
        command: Which of them.
        argv: Its arguments.
        arguments: The checked arguments; None to show only the help.
    """

    def __init__(self, command: str, argv: list[str], arguments: Arguments | None) -> None:
        self.command, self.arguments = command, arguments
        self.run_folder: Path | None = None
        self.packed: Path | None = None
        self.restored: RestoreResult | None = None
        quieten()
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
        """Returns only the command that runs: building the parsers of all four takes four times as long."""
        return {self.command: LightningCLI.subcommands()[self.command]}

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        """Adds the callbacks that every run has, each with its own options."""
        parser.add_lightning_class_args(AveragedWeights, "average")
        parser.add_lightning_class_args(BestCheckpoint, "best")
        parser.add_lightning_class_args(LastCheckpoint, "last")
        parser.add_lightning_class_args(ReconstructionGrid, "grid")
        if self.command == "predict":
            parser.add_function_arguments(restore, "restore", skip=set(_OF_THE_TRAINER))

    def _prepare_subcommand_parser(self, klass: type, subcommand: str, **kwargs: Any) -> LightningArgumentParser:
        parser = super()._prepare_subcommand_parser(klass, subcommand, **kwargs)
        parser.set_defaults({"weights_only": True})
        if subcommand == "predict":
            parser.set_defaults({"return_predictions": False})
        return parser

    def _parse_ckpt_path(self) -> None:
        """Does nothing: Lightning would let a checkpoint's hyperparameters replace the config's."""

    def before_instantiate_classes(self) -> None:
        """Takes the network's sizes from the given weights, unless flags ask for others.

        Weights to start from, and packed models to measure, then fit whatever sizes the config has.
        """
        measured = self._get(self.config, "ckpt_path")
        weights = self._get(self.config, "model.init_args.weights") if measured is None else measured
        network = self._get(self.config, "model.init_args.network")
        asked = self.arguments is not None and any(flag.startswith("--model.network") for flag in self.arguments.argv)
        # The checkpoint of a resumed run must fit the config as it is.
        goes_on = measured is not None and not is_safetensors(Path(measured))
        if weights is None or goes_on or asked or not network or "class_path" not in network:
            return
        theirs = ((read_recipe(find_model(weights)) or {}).get("init_args") or {}).get("network")
        if not theirs or theirs["class_path"] != network["class_path"]:
            return
        sizes = dict_to_namespace(theirs.get("init_args") or {})
        if sizes != network["init_args"]:
            network["init_args"] = sizes
            said = f"The network takes its sizes from {weights}; --model.network.init_args sets others"
            rank_zero_only(print)(said)

    def instantiate_classes(self) -> None:
        """Builds task, data and trainer; gives the data the run's seed, and the task its recipe."""
        self._dump_config()
        try:
            super().instantiate_classes()
        except (ValueError, TypeError, MisconfigurationException) as error:
            raise UserError(essence(str(error), NAMED_IN_YAML)) from error
        seed = self._get(self.config, "seed_everything")
        if getattr(self.datamodule, "seed", 0) is None:
            self.datamodule.seed = int(seed) if seed else 0
        checkpoint = self._get(self.config, "ckpt_path")
        if checkpoint is not None and is_safetensors(Path(checkpoint)):
            self.packed = Path(checkpoint)
            about = load_state(self.packed, self.model)
            if isinstance(self.datamodule, PairedData) and about.get("seed") is not None:
                self.datamodule.check_seed(int(about["seed"]), self.subcommand)
            for config in (self.config, self.config_init):  # Lightning reads its own checkpoints only
                config[self.subcommand]["ckpt_path"] = None
        elif checkpoint is not None:
            check_weights(Path(checkpoint), self.model)
        recipe = copy.deepcopy(self.config_dump["model"])
        for name in ("weights", "optimizer"):  # where training began and how it runs are not part of the task
            (recipe.get("init_args") or {}).pop(name, None)
        self.model.recipe = recipe

    def predict(self, model: Task, ckpt_path: str | None = None, **kwargs: Any) -> None:
        """Restores `restore.input` in tiles, as `img2img restore` does, not the config's pairs.

        Raises:
            UserError: If the model does not restore images, or the run cannot be planned.
        """
        if not isinstance(model, Restoration):
            kind = type(model).__name__
            raise UserError(f"predict restores images, but {kind} does not: use img2img reconstruct, encode or edit")
        weights = self.packed if ckpt_path is None else Path(ckpt_path)
        if ckpt_path is not None:
            load_state(Path(ckpt_path), model)
        options = vars(self._get(self.config, "restore"))
        input, output, mask = (options.pop(name) for name in ("input", "output", "mask"))
        plan = plan_run(
            model,
            Path(input).expanduser(),
            Path(output).expanduser(),
            Options(**options),
            mask=None if mask is None else str(mask),
            name="" if weights is None else str(weights),
            precision=str(self.trainer.precision),
            weights=weights,
            device=self.trainer.strategy.root_device,
        )
        bar = self._get(self.config_init, "trainer").get("enable_progress_bar") is not False
        self.restored = run_plan(plan, self.trainer, bar)

    def instantiate_trainer(self, **kwargs: Any) -> Trainer:
        """Builds the trainer; for `fit` with a run folder and TensorBoard."""
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
            callbacks += [PCABaseline(), LatentPictures(), FinalValidation(), Throughput()]
            if self.run_folder is not None:
                callbacks.append(Opening(self.run_folder))
            if config.get("logger") is not False:
                callbacks += [RunRecord(self.config_dump), LearningRateMonitor("step"), LatentProjector()]
        else:
            callbacks = []
        if config.get("enable_progress_bar") is not False and self.subcommand != "predict":
            callbacks.append(Progress())
        return super()._instantiate_trainer(config, callbacks)

    def after_fit(self) -> None:
        """Calibrates an autoencoder's checkpoints, and prints where everything is."""
        if self.run_folder is not None and isinstance(self.model, Autoencoder | Scorable):
            self._calibrate(self.run_folder)
        if self.run_folder is None or not self.trainer.is_global_zero:
            return
        means = {name.removeprefix("val/"): float(value) for name, value in self.trainer.callback_metrics.items()}
        caption = self.model.headline.caption(means) if isinstance(self.model, PairedTask) else ""
        score = f"val {caption}; " if caption else ""
        folder = self.run_folder
        files = (("checkpoint", "best.ckpt"), ("last", "last.ckpt"), ("grid", "grid.png"))
        there = [f"{what} {folder / name}" for what, name in files if (folder / name).exists()]
        root = self.arguments.root if self.arguments else folder
        watch = "img2img watch" if str(root) == "runs" else f"img2img watch {root}"
        board = any(isinstance(logger, TensorBoardLogger) for logger in self.trainer.loggers)
        print(f"\nDone: {score}{', '.join(there)}" + (f"; TensorBoard: {watch}" if board else ""))

    def _calibrate(self, folder: Path) -> None:
        if not hasattr(self.datamodule, "clean_images"):
            return
        # On the devices that trained, or on one of them if the processes of the others have ended.
        shared, device = dist.is_available() and dist.is_initialized(), self.trainer.strategy.root_device.type
        ids = self.trainer.device_ids if shared else self.trainer.device_ids[:1]
        devices: int | str = "".join(f"{number}," for number in ids) if device == "cuda" else len(ids)
        where = Devices(device, devices, self.trainer.num_nodes if shared else 1)
        # Training resumes from last.ckpt, whose weights must stay as they are.
        for name, freeze in (("best.ckpt", True), ("last.ckpt", False)):
            try:
                calibrate_checkpoint(folder / name, self.model, self.datamodule, where, freeze)
            except UserError as error:
                rank_zero_warn(f"{folder / name} is not calibrated: {error}")


def run_logger(folder: Path) -> TensorBoardLogger:
    """Returns a TensorBoard logger that writes into a run's folder."""
    root = folder.parent.parent
    return TensorBoardLogger(str(root), name=folder.parent.name, version=folder.name, default_hp_metric=False)
