"""The Trainer of every command: Lightning's, with a precision that fits the hardware and defaults that fit us."""

from __future__ import annotations

import logging
import warnings
from typing import Any, Literal

import torch
from lightning.pytorch import Trainer as LightningTrainer
from lightning.pytorch.accelerators import Accelerator
from lightning.pytorch.trainer.connectors.accelerator_connector import _PRECISION_INPUT  # type: ignore[attr-defined]

Precision = Literal["auto"] | _PRECISION_INPUT


class Trainer(LightningTrainer):
    """Lightning's Trainer; all its arguments work.

    Args:
        accelerator: Lightning's, such as `auto`, `cpu` or `gpu`.
        precision: Lightning's names, or `auto`: bfloat16 autocast where the hardware computes in bfloat16 itself,
            else float32.
        use_distributed_sampler: False, for our own samplers share the data among processes.
        kwargs: Lightning's other arguments.
    """

    def __init__(
        self,
        *,
        accelerator: str | Accelerator = "auto",
        precision: Precision | None = "auto",
        use_distributed_sampler: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(
            accelerator=accelerator,
            precision=best_precision(accelerator) if precision == "auto" else precision,
            use_distributed_sampler=use_distributed_sampler,
            **kwargs,
        )


def best_precision(accelerator: str | Accelerator) -> Literal["bf16-mixed", "32-true"]:
    """Returns bfloat16 autocast for hardware that has it natively, and float32 where it would be emulated.

    Emulation is slower than float32, on CPUs by an order of magnitude.
    """
    gpu = accelerator in ("gpu", "cuda") or (accelerator == "auto" and torch.cuda.is_available())
    if gpu and torch.cuda.is_available():
        native = torch.cuda.is_bf16_supported(including_emulation=False)
    elif accelerator == "cpu" or (accelerator == "auto" and not torch.backends.mps.is_available()):
        native = cpu_has_bf16()
    else:  # Apple's and others: what they gain is not known to us
        native = False
    return "bf16-mixed" if native else "32-true"


def cpu_has_bf16() -> bool:
    """Returns whether this CPU multiplies bfloat16 in hardware (AVX512-BF16, AMX)."""
    # torch tells only through these underscored functions, which its own tests use; absent, the answer is no.
    checks = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")
    return any(getattr(torch.cpu, name, bool)() for name in checks)


def quieten() -> None:
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
        r"(?s).*JsonargparseDeprecationWarning|.*was deprecated in v4",  # Lightning calls jsonargparse's old names
        r"(?s).*Dump of a value that does not round-trip",  # albumentations' tuples: lists are as good
        r".*isinstance\(treespec, LeafSpec\)",  # Lightning on a newer torch
        r".*`lr_scheduler.step\(\)` before `optimizer.step\(\)`",  # at resuming; Lightning #5558
    )
    for message in ignored:
        warnings.filterwarnings("ignore", message=message)
    logging.getLogger("lightning.pytorch.utilities.rank_zero").setLevel(logging.WARNING)
    logging.getLogger("lightning.fabric.utilities.seed").setLevel(logging.WARNING)
