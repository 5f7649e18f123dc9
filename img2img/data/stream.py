"""The sample stream: sample n is a pure function of (seed, n).

So the number of workers, GPUs or nodes does not change the training samples, no noise pattern repeats, a resumed run
continues at the next sample, and any sample can be reproduced.
"""

from __future__ import annotations

import hashlib
import itertools
import math
import random
from collections.abc import Callable, Iterator
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from torch.utils.data import Sampler

Draws = tuple[np.random.Generator, random.Random]  # the two generators that an albumentations transform draws from


def _permutation(seed: int, count: int, number: int) -> NDArray[np.int32]:
    return np.random.default_rng([seed, number]).permutation(np.arange(count, dtype=np.int32))


_SMALL = 100_000
_small_permutation = lru_cache(maxsize=64)(_permutation)  # one for each of several folders
_large_permutation = lru_cache(maxsize=4)(_permutation)  # each worker has its own


def image_of_sample(seed: int, count: int, n: int) -> int:
    """Returns which of `count` images sample n is cut from: each once per pass, in a new order for each pass."""
    permutation = _small_permutation if count <= _SMALL else _large_permutation
    return int(permutation(seed, count, n // count)[n % count])


@lru_cache(maxsize=4)
def _turns(seed: int, shares: tuple[int, ...], number: int) -> tuple[tuple[int, int], ...]:
    order = np.random.default_rng([seed, number, 3]).permutation(np.repeat(np.arange(len(shares)), shares))
    counts = [itertools.count() for _ in shares]
    return tuple((part, next(counts[part])) for part in order.tolist())


def part_of_sample(seed: int, shares: tuple[int, ...], n: int) -> tuple[int, int]:
    """Returns which of several parts sample n comes from, and how many samples of that part came before it.

    In each round of sum(shares) samples, each part gives as many as its share, in a seeded order.
    """
    number, position = divmod(n, sum(shares))
    part, before = _turns(seed, shares, number)[position]
    return part, number * shares[part] + before


def draws_of_sample(seed: int, n: int) -> Draws:
    """Returns new generators for sample n. The third seed word separates them from the permutations' streams."""
    return _draws(seed, n, 1)


def draws_of_image(seed: int, name: str) -> Draws:
    """Returns new generators for a validation or test image, which depend only on its name and the seed."""
    return _draws(seed, int.from_bytes(hashlib.blake2b(name.encode(), digest_size=6).digest(), "big"), 2)


def _draws(*words: int) -> Draws:
    sequence = np.random.SeedSequence(words)
    return np.random.default_rng(sequence), random.Random(int(sequence.generate_state(1, np.uint64)[0]))


class StreamSampler(Sampler[int]):
    """Yields this rank's sample numbers of one epoch, which has `batches` batches.

    `start` is called when the epoch begins and returns its first sample's number s. Batch k consists of samples
    [s + k·B, s + (k+1)·B), where B = batch_size · world_size; each rank takes a contiguous part of `batch_size`.
    """

    def __init__(self, start: Callable[[], int], batches: int, batch_size: int, rank: int, world_size: int) -> None:
        self.start, self.batches, self.batch_size = start, batches, batch_size
        self.rank, self.world_size = rank, world_size

    def __len__(self) -> int:
        return self.batches * self.batch_size

    def __iter__(self) -> Iterator[int]:
        first = self.start() + self.rank * self.batch_size
        for batch in range(self.batches):
            begin = first + batch * self.batch_size * self.world_size
            yield from range(begin, begin + self.batch_size)


class EvaluationSampler(Sampler[tuple[int, bool]]):
    """Distributes `count` items over the ranks, as (item, counted).

    Every rank gets equally many, because a rank that finishes early would hang the others. The padding repeats items
    with counted = False: the network sees them, but they are never counted or written.
    """

    def __init__(self, count: int, rank: int, world_size: int) -> None:
        self.count, self.rank, self.world_size = count, rank, world_size

    def __len__(self) -> int:
        return math.ceil(self.count / self.world_size)

    def __iter__(self) -> Iterator[tuple[int, bool]]:
        for k in range(len(self)):
            item = k * self.world_size + self.rank
            yield item % self.count, item < self.count
