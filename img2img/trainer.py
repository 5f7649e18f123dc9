"""Lightning's Trainer with our defaults, such as a precision that suits the hardware; every command uses it."""

from __future__ import annotations

import logging
import warnings
from typing import Any, Literal

import torch
from lightning.fabric.plugins.io import TorchCheckpointIO
from lightning.pytorch import LightningModule
from lightning.pytorch import Trainer as LightningTrainer
from lightning.pytorch.accelerators import Accelerator
from lightning.pytorch.plugins.precision import DoublePrecision
from lightning.pytorch.strategies import Strategy
from lightning.pytorch.strategies.launchers import _SubprocessScriptLauncher
from lightning.pytorch.trainer import call
from lightning.pytorch.trainer.connectors.accelerator_connector import _PRECISION_INPUT  # type: ignore[attr-defined]
from lightning.pytorch.utilities import rank_zero_only
from lightning.pytorch.utilities.model_helpers import is_overridden

from img2img.checkpoint_io import SafeCheckpointIO
from img2img.distributed import FullyShardedStrategy, Launcher, is_loss, loss, set_timeout, waiting_for_all
from img2img.resuming import Connector

Precision = Literal["auto"] | _PRECISION_INPUT


class Trainer(LightningTrainer):
    """Lightning's Trainer with other defaults; all its arguments work.

    Args:
        accelerator: Lightning's, such as `auto`, `cpu` or `gpu`.
        precision: One of Lightning's names, or `auto`, see `best_precision`.
        use_distributed_sampler: False, because our own samplers split the data among processes.
        strategy: Lightning's, such as `ddp`; `fsdp` is `FullyShardedStrategy`, also on the CPU.
        timeout: Seconds that processes wait for each other before one counts as lost; None for Lightning's 30 minutes.
        kwargs: Lightning's other arguments.

    Attributes:
        outlives_others: Whether this process goes on when another one of its machine is lost.
    """

    outlives_others = False

    def __init__(
        self,
        *,
        accelerator: str | Accelerator = "auto",
        precision: Precision | None = "auto",
        use_distributed_sampler: bool = False,
        strategy: str | Strategy = "auto",
        timeout: float | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(
            accelerator=accelerator,
            precision=best_precision(accelerator) if precision == "auto" else precision,
            use_distributed_sampler=use_distributed_sampler,
            strategy=FullyShardedStrategy() if strategy == "fsdp" else strategy,
            **kwargs,
        )
        set_timeout(self.strategy, timeout)
        self._checkpoint_connector = Connector(self)
        self._data_connector.prepare_data = self._prepare_data  # type: ignore[method-assign]
        if type(self.strategy.checkpoint_io) is TorchCheckpointIO:  # not another one that a plugin or strategy brings
            self.strategy.checkpoint_io = SafeCheckpointIO()
        launcher = self.strategy.launcher
        if isinstance(launcher, _SubprocessScriptLauncher):
            self.strategy._launcher = Launcher(launcher, lambda: self.outlives_others)

    def _prepare_data(self) -> None:
        """Lets one process of each machine prepare the data, as Lightning does, but waits for no lost process."""
        for source, call_hook in (
            (self.datamodule, call._call_lightning_datamodule_hook),  # type: ignore[attr-defined]
            (self.lightning_module, call._call_lightning_module_hook),
        ):
            if source is not None and is_overridden("prepare_data", source):
                with waiting_for_all(getattr(self.strategy, "_timeout", None)):
                    if self.local_rank == 0 and (source.prepare_data_per_node or self.node_rank == 0):
                        call_hook(self, "prepare_data")

    def _run(self, model: LightningModule, *args: Any, **kwargs: Any) -> Any:
        # The one method that fit, validate, test and predict share.
        if isinstance(self.precision_plugin, DoublePrecision):
            self.precision_plugin.convert_module(model)  # Lightning does after it loads a checkpoint, which it rounds
        try:
            return super()._run(model, *args, **kwargs)
        except Exception as error:
            if self.world_size > 1 and is_loss(error):
                if isinstance(self.strategy.launcher, Launcher):
                    self.strategy.launcher.end_others()
                raise loss(error, getattr(self.strategy, "_timeout", None)) from error
            raise


def best_precision(accelerator: str | Accelerator) -> Literal["bf16-mixed", "32-true"]:
    """Returns bfloat16 autocast where the hardware has it natively, else float32.

    Emulated bfloat16 is slower than float32, on CPUs by an order of magnitude.
    """
    if accelerator in ("gpu", "cuda", "auto") and torch.cuda.is_available():
        native = torch.cuda.is_bf16_supported(including_emulation=False)
    elif accelerator == "cpu" or (accelerator == "auto" and not torch.backends.mps.is_available()):
        native = cpu_has_bf16()
    else:  # Apple's and others: not measured
        native = False
    return "bf16-mixed" if native else "32-true"


def cpu_has_bf16() -> bool:
    """Returns whether this CPU multiplies bfloat16 in hardware (AVX512-BF16, AMX)."""
    # torch tells only through these private functions, which its own tests use; if they are missing, assume no.
    checks = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
    return any(getattr(torch.cpu, name, bool)() for name in checks)


def first_process() -> bool:
    """Returns whether this process is the one that prints and writes results; valid once a Trainer has run."""
    return getattr(rank_zero_only, "rank", 0) == 0


def quieten() -> None:
    """Silences warnings that do not help users; each line gives the reason."""
    ignored = (
        r".*smaller than the logging interval",  # very short runs
        "LightningCLI's args parameter",  # we rewrite the arguments on purpose
        r".*does not have many workers",  # no workers is our measured choice on CPUs
        r".*Checkpoint directory .* exists and is not empty",  # a resumed run
        r".*You're using the WeightAveraging callback, but loading a checkpoint outside",  # as intended
        r".*callbacks used to create the checkpoint need to be provided",  # evaluation needs none of them
        r".*your dataloader is not resumable",  # the sample stream is: see data/stream.py
        r".*The dirpath has changed",  # a run that starts from another run's checkpoint
        r"(?s).*JsonargparseDeprecationWarning|.*was deprecated in v4",  # Lightning calls jsonargparse's old names
        r"(?s).*Dump of a value that does not round-trip",  # albumentations' tuples: lists work as well
        r".*isinstance\(treespec, LeafSpec\)",  # Lightning on a newer torch
        r".*`lr_scheduler.step\(\)` before `optimizer.step\(\)`",  # when resuming; Lightning #5558
    )
    for message in ignored:
        warnings.filterwarnings("ignore", message=message)
    logging.getLogger("lightning.pytorch.utilities.rank_zero").setLevel(logging.WARNING)
    logging.getLogger("lightning.fabric.utilities.seed").setLevel(logging.WARNING)
