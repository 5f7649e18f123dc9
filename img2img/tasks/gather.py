"""Gathers Python objects from all ranks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

import torch.distributed as dist

T = TypeVar("T")


def gather(items: Sequence[T]) -> list[T]:
    """Returns the items of all ranks, in the order of the ranks; every rank must call it."""
    if not (dist.is_available() and dist.is_initialized()):
        return list(items)
    everyones: list[list[T]] = [[] for _ in range(dist.get_world_size())]
    dist.all_gather_object(everyones, list(items))
    return [item for items_of_rank in everyones for item in items_of_rank]
