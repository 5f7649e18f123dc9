"""The subclass of LightningCLI: subclass mode, our defaults, run folders, recipes, one-line errors."""

from __future__ import annotations

import copy
import os
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch.distributed as dist
import yaml
from jsonargparse import dict_to_namespace, namespace_to_dict
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch import LightningDataModule
from lightning.pytorch.callbacks import LearningRateMonitor
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI
from lightning.pytorch.loggers import TensorBoardLogger
from lightning.pytorch.utilities import rank_zero_only, rank_zero_warn

import img2img.callbacks as own
import img2img.data
import img2img.networks  # noqa: F401  short class names in YAML are found among imported classes
from img2img.anomaly.calibration import calibrate_checkpoint
from img2img.anomaly.scorable import is_scorable
from img2img.callbacks.collector import boards
from img2img.data import PairedData
from img2img.errors import UserError
from img2img.inference.checks import paths_of
from img2img.inference.options import Options
from img2img.inference.plan import plan_run
from img2img.inference.report import RestoreResult
from img2img.inference.run import restore, run_plan
from img2img.latents.runner import Devices
from img2img.shipped import find_model, is_safetensors
from img2img.tasks import PairedTask, Restoration, Task
from img2img.tasks.checkpoint import check_weights, load_state
from img2img.tasks.recipe import network_of
from img2img.trainer import Trainer, first_process, quieten
from img2img.training.fitting import fitting
from img2img.training.messages import essence, metrics_table
from img2img.training.parser import NAMED_IN_YAML, Parser
from img2img.training.preflight import Arguments
from img2img.training.runs import claim_run

TRAINER_DEFAULTS = {
    "val_check_interval": 400,  # batches, counted across epochs: with a last one at the end, below 5 % of a default run
    "check_val_every_n_epoch": None,
    "num_sanity_val_steps": 0,  # a new network returns its input; the first validation comes soon enough
    "log_every_n_steps": 10,
    "enable_model_summary": False,
    "gradient_clip_val": 1.0,
}

CALLBACKS = {
    "average": own.AveragedWeights,
    "best": own.BestCheckpoint,
    "last": own.LastCheckpoint,
    "grid": own.ReconstructionGrid,
    "divergence": own.DivergenceGuard,
}
"""The callbacks with options, by the names of their groups."""
_OF_THE_TRAINER = ("model", "accelerator", "devices", "num_nodes", "precision", "engine", "trust", "watch", "progress")


class CLI(LightningCLI):
    """Runs one of fit, validate, test, predict.

    Args:
        command: Which of them.
        argv: Its arguments.
        arguments: The checked arguments; None to show only the help.
    """

    restored: RestoreResult  # by predict

    def __init__(self, command: str, argv: list[str], arguments: Arguments | None) -> None:
        self.command, self.arguments = command, arguments
        self.run_folder: Path | None = None
        self.interruption = own.Interruption()
        self.goes_on = arguments is not None and arguments.goes_on
        self.packed: Path | None = None
        quieten()
        super().__init__(
            model_class=Task,
            datamodule_class=LightningDataModule,
            subclass_mode_model=True,
            subclass_mode_data=True,
            save_config_callback=None,  # ours is among the callbacks of fit: other commands' configs would not run
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
        for name, callback in CALLBACKS.items():
            parser.add_lightning_class_args(callback, name)
        if self.command == "predict":
            parser.add_function_arguments(restore, "restore", skip=set(_OF_THE_TRAINER))

    def _prepare_subcommand_parser(self, klass: type, subcommand: str, **kwargs: Any) -> LightningArgumentParser:
        parser = super()._prepare_subcommand_parser(klass, subcommand, **kwargs)
        parser.set_defaults({"weights_only": True} | ({"return_predictions": False} if subcommand == "predict" else {}))
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
        theirs = network_of(find_model(weights), within=namespace_to_dict(network))
        if not theirs or theirs["class_path"] != network["class_path"]:
            return
        sizes = dict_to_namespace(theirs.get("init_args") or {})
        if sizes != network["init_args"]:
            network["init_args"] = sizes
            rank_zero_only(print)(f"The network takes its sizes from {weights}; --model.network.init_args sets others")

    def _dump_config(self) -> None:
        """Keeps the config as plain data; Lightning would check all of it a second time, which takes long."""
        parser, config = self._parser(self.subcommand), self.config[self.subcommand]
        dumped = parser.dump(config, "yaml", skip_none=False, skip_validation=True, skip_link_targets=False)
        self.config_dump = yaml.safe_load(dumped)

    def instantiate_classes(self) -> None:
        """Builds task, data and trainer; gives the data the run's seed, and the task its recipe."""
        self._dump_config()
        try:
            super().instantiate_classes()
        except (ValueError, TypeError, MisconfigurationException) as error:
            if self.run_folder is not None:
                with suppress(OSError):  # it may be a run that goes on
                    self.run_folder.rmdir()
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
            check_weights(Path(checkpoint), self.model, resumes=self.subcommand == "fit")
        recipe = copy.deepcopy(self.config_dump["model"])
        for name in ("weights", "optimizer", "compile"):  # how it is trained is not part of the task
            (recipe.get("init_args") or {}).pop(name, None)
        self.model.recipe = recipe

    def validate(self, **kwargs: Any) -> None:
        """Measures the validation images and prints the metrics."""
        self._measure("validate", **kwargs)

    def test(self, **kwargs: Any) -> None:
        """Measures the test images and prints the metrics."""
        self._measure("test", **kwargs)

    def _measure(self, stage: str, verbose: bool, **kwargs: Any) -> None:
        for metrics in getattr(self.trainer, stage)(verbose=False, **kwargs):
            if verbose and self.trainer.is_global_zero:
                print(metrics_table(stage, metrics))

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
            paths_of(input),
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
        asked = self._get(self.config_init, "trainer")
        if self.subcommand == "fit" and self.arguments is not None:
            first = first_process() and os.environ.get("NODE_RANK", "0") == "0"
            if not asked.get("fast_dev_run"):
                run = self.arguments.resumed or claim_run(self.arguments.root, self.arguments.name, first)
                self.run_folder, kwargs["default_root_dir"] = run, str(run)
                if asked.get("logger") in (None, True):
                    kwargs["logger"] = TensorBoardLogger(
                        run.parent.parent, name=run.parent.name, version=run.name, default_hp_metric=False
                    )
        elif asked.get("logger") is None:
            kwargs["logger"] = False
        trainer = super().instantiate_trainer(**kwargs)
        assert isinstance(trainer, Trainer)
        return trainer

    def _instantiate_trainer(self, config: dict[str, Any], callbacks: list[Any]) -> Any:
        config["callbacks"] = list(config.get("callbacks") or [])
        if self.subcommand == "fit":
            callbacks += [own.PCABaseline(), own.LatentPictures(), own.FinalValidation(), own.Throughput()]
            callbacks += [self.interruption, *own.TrialReport.wanted()]
            if is_scorable(self.model):
                callbacks.append(own.LeakCheck())
            if self.run_folder is not None:
                callbacks.append(own.Opening(self.run_folder))
            if config.get("logger") is not False:
                callbacks += [own.RunRecord(self.config_dump), own.LatentProjector()]
                callbacks.append(LearningRateMonitor("step"))
            if self.run_folder is not None:
                callbacks.append(own.SavedConfig(self.config_dump))
        else:
            callbacks = []
        if config.get("enable_progress_bar") is not False and self.subcommand != "predict":
            callbacks.append(own.Progress())
        return super()._instantiate_trainer(config, callbacks)

    def fit(self, model: Task, **kwargs: Any) -> None:
        """Trains, calibrates an autoencoder's checkpoints, and prints where everything is.

        Raises:
            Stopped: If a signal has stopped the run.
            UserError: If another process trains in the run's folder.
            DiskFull: If the disk is full.
        """
        with fitting(self.run_folder, self.trainer.is_global_zero, self.interruption, self.goes_on):
            self.trainer.fit(model, **kwargs)
            self._finish()

    def _finish(self) -> None:
        if self.run_folder is not None and is_scorable(self.model):
            self._calibrate(self.run_folder)
        if self.run_folder is None or not self.trainer.is_global_zero:
            return
        means = {name.removeprefix("val/"): float(value) for name, value in self.trainer.callback_metrics.items()}
        caption = self.model.headline.caption(means) if isinstance(self.model, PairedTask) else ""
        score = f"val {caption}; " if caption else ""
        files = {"checkpoint": "best.ckpt", "last": "last.ckpt", "grid": "grid.png"}
        paths = {what: self.run_folder / name for what, name in files.items()}
        there = ", ".join(f"{what} {path}" for what, path in paths.items() if path.exists())
        root = self.run_folder.parent.parent
        watch = "; TensorBoard: img2img watch" + (f" {root}" if str(root) != "runs" else "")
        done = "Done" if self.interruption.began else f"Already finished at step {self.trainer.global_step}"
        print(f"\n{done}: {score}{there}{watch if boards(self.trainer) else ''}")

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
