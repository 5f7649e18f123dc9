"""Compares an exported file with torch, on whole images of random sizes and on the same in tiles."""

from __future__ import annotations

import math
import random
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from img2img.exporting.contract import Contract
from img2img.exporting.core import Core
from img2img.exporting.runner import ExportedNetwork
from img2img.networks import ReceptiveField
from img2img.tasks import Task
from img2img.tiling.geometry import Cut, tiling_by_side
from img2img.tiling.planner import BLEND
from img2img.tiling.stitch import restore_in_tiles

SIZES = 20
SHORT, LONG = 96, 160
"""The longest sides of the images, in pixels; with a large halo the longer one grows, so that there are tiles."""
TOLERANCE = {"float32": 1e-4, "float16": 5e-3}
"""The largest difference to torch in float32, for values in [0, 1]. Half precision has 2048 steps between 0.5 and 1,
and the layers' roundings add up."""


@dataclass(frozen=True)
class Parity:
    """How far an exported file is from torch.

    Attributes:
        whole: Largest difference of a value on whole images.
        tiled: Largest difference between tiles of the file and the whole image in torch; None if the model takes only
            one size, or no halo makes tiling exact.
        images: How many images of random sizes were compared.
    """

    whole: float
    tiled: float | None
    images: int

    @property
    def worst(self) -> float:
        """The largest difference of all; NaN if there is one."""
        return math.nan if math.isnan(self.whole + (self.tiled or 0)) else max(self.whole, self.tiled or 0)


@torch.inference_mode()
def compare(task: Task, network: ExportedNetwork, images: int = SIZES) -> Parity:
    """Returns how far an exported file is from its task in torch, which pads images itself and computes in float32.

    Args:
        task: The task, on the CPU.
        network: The file.
        images: How many random images, always the same.
    """
    # Not its core, in which the caller pads for a `Padded` network.
    expected, contract = _Whole(task), network.contract
    whole, tiled = [], []
    for image, tile in _images(contract, images):
        correct = expected(image)
        whole.append(_difference(network(image), correct))
        if contract.size is None and contract.halo is not None:
            cut = Cut(contract.halo, contract.stride)
            height, width = image.shape[-2:]
            tiling = tiling_by_side(height, width, cut, tile)
            tiled.append(_difference(restore_in_tiles(Tiled(network), image, None, tiling), correct))
    return Parity(_worst(whole), _worst(tiled) if tiled else None, images)


class Tiled:
    """An exported file as something to restore in tiles, with all of its output channels."""

    def __init__(self, network: ExportedNetwork) -> None:
        self.network, self.scale = network, network.scale
        self.receptive_field: ReceptiveField | None = network.field
        self.bytes_per_pixel = network.bytes_per_pixel

    def restore_tile(
        self, image: Tensor, mask: Tensor | None = None, self_ensemble: bool = False, uncertainty: bool = False
    ) -> Tensor:
        """Returns the file's output; the other arguments are not used."""
        output: Tensor = self.network(image)
        return output


class _Whole(nn.Module):
    """The task in torch, with the inputs and outputs of its core."""

    def __init__(self, task: Task) -> None:
        super().__init__()
        core: Any = Core(task)
        core.task.network = task.network  # pads by itself
        self.core = core.eval()

    def forward(self, image: Tensor) -> Tensor:
        output: Tensor = self.core(image)
        return output


def _images(contract: Contract, count: int) -> Iterator[tuple[Tensor, int]]:
    """Yields images of random sizes, with the side of their tiles; their values are random."""
    draws, generator = random.Random(0), torch.Generator().manual_seed(0)
    reach = contract.halo or BLEND
    longest = max(LONG, 2 * reach + 3 * contract.stride)
    for number in range(count):
        sides = [_draw(draws, SHORT), _draw(draws, longest)]
        if number == 0:
            sides = [1, 1]
        height, width = contract.size or (sides if number % 2 else sides[::-1])
        image = torch.rand(1, len(contract.input_channels), height, width, generator=generator)
        if contract.mask:
            image[:, -1:] = (image[:, -1:] > draws.random()).float()
        yield image, draws.choice([1, 2, 3]) * contract.stride


def _draw(draws: random.Random, most: int) -> int:
    return round(math.exp(draws.uniform(0, math.log(most))))


def _difference(found: Tensor, correct: Tensor) -> float:
    if found.shape != correct.shape:
        return math.inf
    return float((found - correct).abs().max())


def _worst(differences: list[float]) -> float:
    return math.nan if any(map(math.isnan, differences)) else max(differences)
