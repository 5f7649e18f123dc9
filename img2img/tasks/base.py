"""What all tasks share: a network, an optimiser with its schedule, and checkpoints that can be opened anywhere."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from lightning.pytorch import LightningModule
from lightning.pytorch.callbacks import Timer
from lightning.pytorch.utilities.types import OptimizerLRSchedulerConfig
from torch import Tensor, nn

from img2img import __version__
from img2img.errors import UserError
from img2img.shipped import find_model
from img2img.tasks.checkpoint import CHECKPOINT_FORMAT, CHECKPOINT_KEY, copy_weights
from img2img.tasks.schedule import warmup_cosine, warmup_stable_decay

_SETTINGS = {"lr", "betas", "momentum", "weight_decay", "eps"}  # of an optimizer, which a config may change
OptimizerFactory = Callable[[Iterable[nn.Parameter]], torch.optim.Optimizer]
"""An optimizer's class with its arguments, all but the parameters; in YAML a `class_path` with `init_args`."""

Batch = dict[str, Any]
"""What the data module gives: input, target, mask (N×C×H×W), n, path; see `img2img.data.pairs`. To restore: input and
perhaps mask; see `img2img.data.tiles`."""


class Task(LightningModule):
    """A network with what it takes to train it: optimizer, warm-up and decay of its rates, channels-last memory.

    The rate decays by step, or by time where `trainer.max_time` ends the run sooner; see `decay_steps` for runs whose
    end is not known when they begin.

    Args:
        network: Any module that maps N×C×H×W to N×C'×H×W.
        lr: Peak learning rate; None for the optimizer's own default, AdamW's being 1.5e-3.
        betas: AdamW's decay rates of the gradient's mean and square.
        weight_decay: Weight decay; None for the optimizer's own default, AdamW's being 0.
        decay_steps: Steps over which the rate decays at the end of the run; None for a cosine over the whole run. 0
            keeps the rate constant, for a run whose end is not known yet. Such a run (`trainer.max_steps: -1`) is ended
            well by going on from its checkpoint with a number here: the decay begins where it stopped, and the run ends
            with it.
        optimizer: Another optimizer than AdamW, such as `MuonAdamW`. The schedule multiplies the rates of all its
            groups.
        warmup_steps: Optimizer steps over which the rate rises to its peak.
        final_lr_share: Share of the peak rate that is left at the end.
        weights: Checkpoint, or shipped model's name, whose network's weights to start from (fine-tuning); names and
            shapes must agree.

    Attributes:
        recipe: The task as plain data, `{"class_path": …, "init_args": {…}}`, written into checkpoints; None for a
            task that was built by hand, whose checkpoints `img2img.load` cannot open.
        fine_tuned: Whether the network begins with given weights.
        decay_from: The step at which the decay of `decay_steps` begins; None while that is not known.
    """

    recipe: dict[str, Any] | None = None
    decay_from: int | None = None

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
    ) -> None:
        super().__init__()
        if decay_steps is not None and decay_steps < 0:
            raise UserError(f"decay_steps must be at least 0, not {decay_steps}; 0 keeps the rate constant")
        # torch converts no module with weights of five dimensions, which some networks from elsewhere have.
        flat = all(weight.dim() != 5 for weight in (*network.parameters(), *network.buffers()))
        self.network = network.to(memory_format=torch.channels_last) if flat else network
        self.lr, self.betas, self.weight_decay = lr, betas, weight_decay
        self.optimizer, self.decay_steps = optimizer, decay_steps
        self._resumed_at, self._ends_with_decay = 0, False
        self._trained_with: str | None = None
        self.warmup_steps, self.final_lr_share = warmup_steps, final_lr_share
        self.fine_tuned = weights is not None
        if weights is not None:
            copy_weights(find_model(weights, "--model.weights"), self.network)

    @property
    def in_channels(self) -> int:
        """Channels of the images that the network takes: what it says itself, else its first convolution's.

        A first convolution of other than 1 or 3 channels (behind a pixel-unshuffle, say) tells nothing: 3 then.
        """
        said, first = self.network_channels, self._first_channels
        return said if said is not None else first if first in (1, 3) else 3

    @property
    def network_inputs(self) -> int:
        """Channels that the network itself takes, those of a mask included."""
        return self.network_channels or self._first_channels

    @property
    def network_channels(self) -> int | None:
        """How many channels the network itself says that it takes, as `in_channels`; None where it does not say."""
        said = getattr(self.network, "in_channels", None)
        return said if isinstance(said, int) else None

    @property
    def _first_channels(self) -> int:
        return next((m.in_channels for m in self.network.modules() if isinstance(m, nn.Conv2d)), 3)

    @property
    def scale(self) -> int:
        """Output pixels per input pixel, on each axis: what the network says itself, else 1."""
        said = getattr(self.network, "scale", 1)
        return said if isinstance(said, int) else 1

    def forward(self, image: Tensor) -> Tensor:
        """Maps an image to what the task makes of it.

        Args:
            image: N×C×H×W float32, nominally in [0, 1], of any size from 1×1.

        Returns:
            N×C'×(scale·H)×(scale·W) in [0, 1].
        """
        output: Tensor = self.network(image.contiguous(memory_format=torch.channels_last))
        return output.float().clamp(0, 1)

    def configure_optimizers(self) -> OptimizerLRSchedulerConfig:
        """Returns the optimizer with the schedule of its rates, counted in optimizer steps.

        Raises:
            UserError: If all weights are frozen.
        """
        if not any(parameter.requires_grad for parameter in self.network.parameters()):
            raise UserError("all weights of the network are frozen, as a published model's are: it is for restoring")
        optimizer = self._new_optimizer()
        scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, self._lr_factor)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}

    def _new_optimizer(self) -> torch.optim.Optimizer:
        weights = self.network.parameters()  # not the loss's, which may be a network too
        given = {"lr": self.lr, "weight_decay": self.weight_decay}
        asked = {name: value for name, value in given.items() if value is not None}
        factory: Any = self.optimizer
        if factory is not None:
            try:
                optimizer: torch.optim.Optimizer = factory(weights, **asked)
                return optimizer
            except (ValueError, TypeError) as error:
                raise UserError(f"--model.optimizer: {error}") from error
        return torch.optim.AdamW(
            weights,
            lr=asked.get("lr", 1.5e-3),
            weight_decay=asked.get("weight_decay", 0.0),
            betas=self.betas,
            # Lightning refuses to clip gradients of a fused optimizer under autocast (Lightning #21435).
            fused=not str(self.trainer.precision).endswith("mixed"),
        )

    def _lr_factor(self, step: int) -> float:
        if self.decay_steps is not None:
            return warmup_stable_decay(step, self.warmup_steps, self.decay_from, self.decay_steps, self.final_lr_share)
        total = self.trainer.estimated_stepping_batches
        return warmup_cosine(step, self.warmup_steps, total, self.final_lr_share, self._time_share())

    def _time_share(self) -> float:
        """Returns how much of `trainer.max_time` has passed, so that a run of a given time ends its decay in time."""
        timers = (callback for callback in self.trainer.callbacks if isinstance(callback, Timer))  # type: ignore[attr-defined]
        timer = next(timers, None)
        remaining = None if timer is None else timer.time_remaining()
        if timer is None or remaining is None:
            return 0.0
        elapsed = timer.time_elapsed()
        # The first process's clock for all, for their weights would drift apart with their rates.
        share: float = self.trainer.strategy.broadcast(elapsed / max(1e-9, elapsed + remaining))
        return share

    def on_fit_start(self) -> None:
        """Finds out when the decay begins; a run without another end gets the decay's.

        Raises:
            UserError: If the run goes on from a checkpoint of another optimizer, whose state would mean nothing.
        """
        asked = type(self.optimizers(use_pl_optimizer=False)).__name__
        if self._trained_with not in (None, asked):
            raise UserError(
                f"this checkpoint was trained with {self._trained_with}, not {asked}: "
                "name that optimizer, or start another training from it with --model.weights"
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
                    f"decay_steps {self.decay_steps} of a run without an end: give trainer.max_steps, or the "
                    "--ckpt_path of a run that is to end"
                )
            self.decay_from = self._resumed_at
        self._ends_with_decay = True
        self.trainer.fit_loop.epoch_loop.max_steps = self.decay_from + self.decay_steps

    def on_train_start(self) -> None:
        """Lets the config's rates hold in a resumed run, over those that the checkpoint has restored."""
        optimizer, scheduler = self.optimizers(use_pl_optimizer=False), self.lr_schedulers()
        assert isinstance(optimizer, torch.optim.Optimizer)
        assert isinstance(scheduler, torch.optim.lr_scheduler.LambdaLR)
        asked = self._new_optimizer().param_groups
        factor = self._lr_factor(self.global_step)
        for group, given in zip(optimizer.param_groups, asked, strict=True):
            # Not all of it: some optimizers keep their state there.
            group.update({name: given[name] for name in _SETTINGS & given.keys()})
            group["initial_lr"], group["lr"] = given["lr"], given["lr"] * factor
        scheduler.base_lrs = [given["lr"] for given in asked]

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
        """Remembers where the checkpoint's run stood: a decay that had begun goes on."""
        self._resumed_at = int(checkpoint.get("global_step", 0))
        about = checkpoint.get(CHECKPOINT_KEY) or {}
        self.decay_from = about.get("decay_from")
        if self._resumed_at > 0:  # a checkpoint of training; the older ones, which do not say, were AdamW's
            self._trained_with = about.get("optimizer") or "AdamW"
