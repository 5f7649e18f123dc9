"""What of a task is exported: one function of one tensor, and the contract that describes it."""

from __future__ import annotations

import copy
import math
from typing import Any, Literal

import torch
from torch import Tensor, nn

from img2img.errors import UserError
from img2img.exporting.contract import COLOURS, MASK, Contract, digest_of
from img2img.networks import InpaintingUNet, Padded, PublishedNetwork
from img2img.tasks import AnomalySegmentation, Autoencoder, Colorization, Restoration, Task, UncertainRestoration

Precision = Literal["float32", "float16"]


class Core(nn.Module):
    """A task as a function of one tensor: image, and mask if it takes one, to everything that it estimates.

    Weights and arithmetic of the network are in the precision asked for; images, and what the task does with the
    network's output, are float32.

    Args:
        task: The task; it is copied.
        precision: Of the network.
    """

    def __init__(self, task: Task, precision: Precision = "float32") -> None:
        super().__init__()
        self.task = copy.deepcopy(task).to("cpu").eval().requires_grad_(False)
        self.fixed = isinstance(task, Autoencoder)
        if isinstance(self.task.network, Padded):  # the caller pads
            self.task.network = self.task.network.network
        self.halves = precision == "float16"
        if self.halves:
            self.task.network = self.task.network.half() if self.fixed else _Half(self.task.network)

    def forward(self, image: Tensor) -> Tensor:
        """Maps 1×C×H×W, see `Contract`, to 1×C'×(scale·H)×(scale·W)."""
        task: Any = self.task
        if getattr(task, "needs_mask", False):
            # By index: OpenVINO makes one operation of two slices, with two outputs, which it then cannot compile.
            last = image.shape[1] - 1
            seen, mask = image.index_select(1, torch.arange(last)), image.index_select(1, torch.tensor([last]))
            restored: Tensor = task(seen, mask)
            return restored
        if isinstance(task, AnomalySegmentation):
            return torch.cat(task.segment(image), 1)
        if isinstance(task, UncertainRestoration):
            return torch.cat(task.estimate(image), 1)
        restored = task(image.half() if self.halves and self.fixed else image)
        return restored


class _Half(nn.Module):
    """A network in float16 between float32."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network.half()

    def forward(self, image: Tensor) -> Tensor:
        """Maps float32 to float32."""
        output: Tensor = self.network(image.half())
        return output.float()


def contract_of(task: Task, precision: Precision) -> Contract:
    """Returns the contract of a task's `Core`, with the memory that torch takes.

    Args:
        task: The task.
        precision: Of the network.

    Raises:
        UserError: If the task is of a kind that is not exported.
    """
    if not isinstance(task, Restoration | Autoencoder) or task.in_channels not in COLOURS:
        raise UserError(f"a {type(task).__name__} that takes no gray or RGB images cannot be exported")
    images = COLOURS[task.in_channels]
    field = task.receptive_field if isinstance(task, Restoration) else None
    stride = 1 if field is None else field.stride
    return Contract(
        task=type(task).__name__,
        input_channels=(*images, MASK) if isinstance(task, Restoration) and task.needs_mask else images,
        output_channels=_outputs(task, images),
        multiple=1 if isinstance(task, Autoencoder) else _multiple_of(task.network, stride),
        stride=stride,
        halo=None if field is None else field.radius,
        scale=task.scale,
        size=task.network.image_size if isinstance(task, Autoencoder) else None,
        bytes_per_pixel=task.bytes_per_pixel if isinstance(task, Restoration) else 4.0 * task.in_channels,
        precision=precision,
        thresholds=_thresholds(task),
        weights=digest_of(task),
    )


def _outputs(task: Task, images: tuple[str, ...]) -> tuple[str, ...]:
    if isinstance(task, AnomalySegmentation):
        return (*images, "anomaly")
    if isinstance(task, UncertainRestoration):
        return (*images, *(f"sigma_{name}" for name in images))
    return COLOURS[3] if isinstance(task, Colorization) else images


def _thresholds(task: Task) -> dict[str, float]:
    if isinstance(task, Autoencoder):
        found = task.statistics.thresholds
    elif isinstance(task, AnomalySegmentation):
        found = task.thresholds
    else:
        return {}
    scores = {name: each.threshold for name, each in found.scores.items()}
    return scores | {name: each.value for name, each in found.pixels.items()}


def _multiple_of(network: nn.Module, stride: int) -> int:
    """Returns the number of which heights and widths must be multiples, so that the network has nothing to pad."""
    if isinstance(network, InpaintingUNet):
        return 1  # pads inside: its padding is a hole, which no caller can give
    if isinstance(network, PublishedNetwork):
        return math.lcm(network.multiple, stride)
    declared = getattr(network, "stride", 1)
    return math.lcm(declared if isinstance(declared, int) else 1, stride)
