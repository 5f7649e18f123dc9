"""The base class of all tasks: a network, an optimizer with its schedule, and self-contained checkpoints."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from lightning.pytorch import LightningModule
from lightning.pytorch.callbacks import Timer
from lightning.pytorch.utilities.types import OptimizerLRSchedulerConfig
from torch import Tensor, nn
from torch.distributed.tensor import DTensor

from img2img.errors import UserError
from img2img.shipped import find_model
from img2img.tasks.checkpoint import CHECKPOINT_FORMAT, CHECKPOINT_KEY, copy_weights
from img2img.tasks.schedule import warmup_cosine, warmup_stable_decay
from img2img.version import __version__

_SETTINGS = {"lr", "betas", "momentum", "weight_decay", "eps"}  # of an optimizer, which a config may change on resume
OptimizerFactory = Callable[[Iterable[nn.Parameter]], torch.optim.Optimizer]
"""An optimizer class with all its arguments but the parameters; in YAML a `class_path` with `init_args`."""

Batch = dict[str, Any]
"""A batch of the data module, see `img2img.data.pairs`; for restoring just input, and mask if there is one."""


class Task(LightningModule):
    """A network with its training setup: optimizer, warm-up and decay of the learning rate, channels-last memory.

    The learning rate decays by steps, or by time if `trainer.max_time` ends the run sooner; see `decay_steps` for runs
    of unknown length.

    Args:
        network: Any module that maps N×C×H×W to N×C'×H×W.
        lr: Peak learning rate; None for the optimizer's default (AdamW: 1.5e-3).
        betas: AdamW's decay rates of the gradient's mean and square.
        weight_decay: Weight decay; None for the optimizer's default (AdamW: 0).
        decay_steps: Steps over which the learning rate decays at the end of the run; None for a cosine over the whole
            run. 0 keeps it constant, for a run of unknown length (`trainer.max_steps: -1`). To end such a run, resume
            from its checkpoint with a number here: the decay starts where it stopped, and the run ends with the decay.
        compile: Whether to train with `torch.compile`, which needs a C++ compiler, and minutes before the first step.
            Validation is not compiled, because its images differ in size.
        optimizer: Optimizer to use instead of AdamW, such as `MuonAdamW`. The schedule scales the learning rates of all
            its groups.
        warmup_steps: Optimizer steps over which the learning rate rises to its peak.
        final_lr_share: Fraction of the peak learning rate that is left at the end.
        weights: Checkpoint, or name of a shipped model, whose network weights to start from (fine-tuning); names and
            shapes must agree.

    Attributes:
        recipe: The task as plain data, `{"class_path": …, "init_args": {…}}`, written into checkpoints; None for a
            task that was built by hand, whose checkpoints `img2img.load` cannot open.
        fine_tuned: Whether training starts from given weights.
        decay_from: The step at which the decay of `decay_steps` starts; None while that is unknown.
        gradient_norm: The norm of this step's gradient, if a callback has measured it.
    """

    recipe: dict[str, Any] | None = None
    decay_from: int | None = None
    gradient_norm: float | None = None

    def __init__(
        self,
        network: nn.Module,
        lr: float | None = None,
        betas: tuple[float, float] = (0.9, 0.99),
        weight_decay: float | None = None,
        warmup_steps: int = 50,
        final_lr_share: float = 1e-3,
        weights: str | None = None,
        optimizer: OptimizerFactory | None = None,
        decay_steps: int | None = None,
        compile: bool = False,
    ) -> None:
        super().__init__()
        if decay_steps is not None and decay_steps < 0:
            raise UserError(f"decay_steps must be at least 0, not {decay_steps}; 0 keeps the rate constant")
        # torch cannot convert modules with weights of five dimensions, which some third-party networks have.
        flat = all(weight.dim() != 5 for weight in (*network.parameters(), *network.buffers()))
        self.network = network.to(memory_format=torch.channels_last) if flat else network
        self.lr, self.betas, self.weight_decay = lr, betas, weight_decay
        self.optimizer, self.decay_steps, self.compiled = optimizer, decay_steps, compile
        self._resumed_at, self._ends_with_decay = 0, False
        self._trained_with: str | None = None
        self.warmup_steps, self.final_lr_share = warmup_steps, final_lr_share
        self.fine_tuned = weights is not None
        if weights is not None:
            copy_weights(find_model(weights, "--model.weights"), self.network)

    @property
    def in_channels(self) -> int:
        """Channels of the images that the network takes: those it declares, else its first convolution's.

        3 if the first convolution has neither 1 nor 3 channels (behind a pixel-unshuffle, say).
        """
        channels = self.network_inputs
        return channels if self.network_channels is not None or channels in (1, 3) else 3

    @property
    def network_inputs(self) -> int:
        """Input channels of the network, including a mask's: those it declares, else its first convolution's."""
        first = next((module.in_channels for module in self.network.modules() if isinstance(module, nn.Conv2d)), 3)
        return self.network_channels or first

    @property
    def network_channels(self) -> int | None:
        """Input channels that the network declares as `in_channels`; None if it declares none."""
        declared = getattr(self.network, "in_channels", None)
        return declared if isinstance(declared, int) else None

    @property
    def scale(self) -> int:
        """Output pixels per input pixel, on each axis: what the network declares, else 1."""
        declared = getattr(self.network, "scale", 1)
        return declared if isinstance(declared, int) else 1

    def forward(self, image: Tensor) -> Tensor:
        """Maps images to the task's output.

        Args:
            image: N×C×H×W float32, nominally in [0, 1], of any size from 1×1.

        Returns:
            N×C'×(scale·H)×(scale·W) in [0, 1].
        """
        output: Tensor = self.network(image.contiguous(memory_format=torch.channels_last))
        return output.float().clamp(0, 1)

    def log_step(self, values: Mapping[str, Tensor | float]) -> None:
        """Logs values of a training step if it is the first or one of the trainer's logging steps.

        Lightning's `log` prepares values at every step, which takes as long as a small layer, and drops most of them.
        `train/loss` is shown in the progress bar.
        """
        loop, every = self.trainer.fit_loop.epoch_loop, self.trainer.log_every_n_steps  # type: ignore[attr-defined]
        number = loop._batches_that_stepped + 1  # as Lightning counts
        if number == 1 or (every and number % every == 0) or self.trainer.fast_dev_run:  # type: ignore[attr-defined]
            for name, value in values.items():
                self.log(name, value, prog_bar=name == "train/loss")

    def configure_optimizers(self) -> OptimizerLRSchedulerConfig:
        """Returns the optimizer and its learning-rate schedule, counted in optimizer steps.

        Raises:
            UserError: If all weights are frozen.
        """
        if not any(parameter.requires_grad for parameter in self.network.parameters()):
            raise UserError("all weights of the network are frozen, as a published model's are: it can only restore")
        optimizer = self._new_optimizer()
        scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, self._lr_factor)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}

    def _new_optimizer(self) -> torch.optim.Optimizer:
        weights = self.network.parameters()  # not the loss's, which may have parameters too
        given = {"lr": self.lr, "weight_decay": self.weight_decay}
        asked: dict[str, Any] = {name: value for name, value in given.items() if value is not None}
        factory: Any = self.optimizer
        if factory is not None:
            try:
                optimizer: torch.optim.Optimizer = factory(weights, **asked)
                return optimizer
            except (ValueError, TypeError) as error:
                raise UserError(f"--model.optimizer: {error}") from error
        # Lightning refuses to clip gradients of a fused optimizer under autocast (Lightning #21435).
        fused = not str(self.trainer.precision).endswith("mixed")
        return torch.optim.AdamW(weights, betas=self.betas, fused=fused, **{"lr": 1.5e-3, "weight_decay": 0.0} | asked)

    def _lr_factor(self, step: int) -> float:
        if self.decay_steps is not None:
            return warmup_stable_decay(step, self.warmup_steps, self.decay_from, self.decay_steps, self.final_lr_share)
        total = self.trainer.estimated_stepping_batches
        return warmup_cosine(step, self.warmup_steps, total, self.final_lr_share, self._time_share())

    def _time_share(self) -> float:
        """Returns the fraction of `trainer.max_time` that has passed, so that the decay ends with the run."""
        timers = (callback for callback in self.trainer.callbacks if isinstance(callback, Timer))  # type: ignore[attr-defined]
        timer = next(timers, None)
        if timer is None or (remaining := timer.time_remaining()) is None:
            return 0.0
        elapsed = timer.time_elapsed()
        # The first process's clock for all: with different learning rates their weights would drift apart.
        share: float = self.trainer.strategy.broadcast(elapsed / max(1e-9, elapsed + remaining))
        return share

    def configure_gradient_clipping(
        self,
        optimizer: torch.optim.Optimizer,
        gradient_clip_val: float | None = None,
        gradient_clip_algorithm: str | None = None,
    ) -> None:
        """Clips gradients as Lightning does, by their norm if it is known, which takes less than measuring it again."""
        norm, self.gradient_norm = self.gradient_norm, None
        parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
        divided = any(isinstance(parameter, DTensor) for parameter in parameters)
        if norm is None or gradient_clip_val is None or gradient_clip_algorithm not in (None, "norm") or divided:
            super().configure_gradient_clipping(optimizer, gradient_clip_val, gradient_clip_algorithm)
        elif norm > gradient_clip_val * (1 - 1e-4):  # else it would change nothing
            known = torch.tensor(norm, dtype=parameters[0].dtype)
            nn.utils.clip_grads_with_norm_(parameters, gradient_clip_val, known)

    def on_fit_start(self) -> None:
        """Determines when the decay starts; a run without a limit of its own ends with the decay.

        Raises:
            UserError: If the run resumes from a checkpoint of another optimizer, whose state would mean nothing, or a
                new run has `decay_steps` but no end.
        """
        asked = type(self.optimizers(use_pl_optimizer=False)).__name__
        if self._trained_with not in (None, asked):
            raise UserError(
                f"this checkpoint was trained with {self._trained_with}, not {asked}: "
                "use that optimizer, or start a new run from it with --model.weights"
            )
        if not self.decay_steps:
            self.decay_from = None
            return
        if self.trainer.max_steps > 0:
            self.decay_from = max(0, self.trainer.max_steps - self.decay_steps)
            return
        if self.decay_from is None:
            if self._resumed_at == 0:
                raise UserError(
                    f"decay_steps {self.decay_steps} in a run without an end: give trainer.max_steps, or the "
                    "--ckpt_path of the run to end"
                )
            self.decay_from = self._resumed_at
        self._ends_with_decay = True
        self.trainer.fit_loop.epoch_loop.max_steps = self.decay_from + self.decay_steps

    def on_train_start(self) -> None:
        """Compiles the network if asked to; on resume, lets the config's optimizer settings win."""
        if self.compiled:
            self.network.compile()
        optimizer, scheduler = self.optimizers(use_pl_optimizer=False), self.lr_schedulers()
        assert isinstance(optimizer, torch.optim.Optimizer)
        assert isinstance(scheduler, torch.optim.lr_scheduler.LambdaLR)
        asked = self._new_optimizer().param_groups
        factor = self._lr_factor(self.global_step)
        for group, given in zip(optimizer.param_groups, asked, strict=True):
            # Only these: some optimizers keep their state in the group.
            group.update({name: given[name] for name in _SETTINGS & given.keys()})
            group["initial_lr"], group["lr"] = given["lr"], given["lr"] * factor
        scheduler.base_lrs = [given["lr"] for given in asked]
        # Fused optimizers walk through memory, and another strategy may have saved their state in another order.
        for parameter, state in optimizer.state.items():
            for name, value in state.items():
                same_kind = isinstance(value, Tensor) and value.shape == parameter.shape
                if same_kind and value.stride() != parameter.stride():
                    state[name] = torch.empty_like(parameter, dtype=value.dtype).copy_(value)

    def on_validation_start(self) -> None:
        """Leaves the compiled network: each new size of an image would be compiled anew."""
        if self.compiled:
            torch.compiler.set_stance("force_eager")

    def on_validation_end(self) -> None:
        """Returns to the compiled network."""
        if self.compiled:
            torch.compiler.set_stance("default")

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Adds the recipe under our own key: plain data, from which `img2img.load` rebuilds the task."""
        # Without a Trainer (a checkpoint made by hand) there is no optimizer.
        optimizer = self.optimizers(use_pl_optimizer=False) if self._trainer is not None else None
        checkpoint[CHECKPOINT_KEY] = {
            "format": CHECKPOINT_FORMAT,
            "version": __version__,
            "recipe": self.recipe,
            "decay_from": self.decay_from if self._ends_with_decay else None,
            "optimizer": type(optimizer).__name__ if isinstance(optimizer, torch.optim.Optimizer) else None,
        }

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Remembers how far the checkpoint's run had come; a decay that had started continues."""
        self._resumed_at = int(checkpoint.get("global_step", 0))
        about = checkpoint.get(CHECKPOINT_KEY) or {}
        self.decay_from = about.get("decay_from")
        if self._resumed_at > 0:  # a training checkpoint; older ones name no optimizer and were AdamW's
            self._trained_with = about.get("optimizer") or "AdamW"
