"""Brings together what the processes of a run have: Python objects, and means of which a loss is made."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor

T = TypeVar("T")


def gather(items: Sequence[T]) -> list[T]:
    """Returns the items of all ranks, in the order of the ranks; every rank must call it."""
    if not _shared():
        return list(items)
    everyones: list[list[T]] = [[] for _ in range(dist.get_world_size())]
    dist.all_gather_object(everyones, list(items))
    return [item for items_of_rank in everyones for item in items_of_rank]


def mean_of_batch(own: Tensor) -> Tensor:
    """Returns the mean over all ranks of a mean over a rank's part of the batch; every rank must call it.

    For losses that are not linear in such a mean. The gradient of the result is passed on to the rank's own mean
    undivided: training (DDP, FSDP) takes the mean of the ranks' gradients, which makes it the gradient of one process
    that has the whole batch.
    """
    if not _shared():
        return own
    mean: Tensor = _MeanOfRanks.apply(own)
    return mean


class _MeanOfRanks(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, own: Tensor) -> Tensor:
        mean = own.clone()
        dist.all_reduce(mean)
        return mean / dist.get_world_size()

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        return gradients[0]


def _shared() -> bool:
    return dist.is_available() and dist.is_initialized()
