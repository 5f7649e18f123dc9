"""Noise within tasks: the noise of sample n is a pure function of seed, n and purpose.

It does not depend on batches, workers or processes, and is the same in a resumed run. Lightning does not save the
state of random generators.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import IntEnum

import numpy as np
import torch
from torch import Tensor


class Purpose(IntEnum):
    """Purposes of noise; the sample stream itself uses 1 and 2, see `img2img.data.stream`."""

    TRAINING = 3
    TRAINING_DEQUANTISATION = 4
    EVALUATION = 5
    DEQUANTISATION = 6
    IMPORTANCE = 7


def normal_noise(seed: int, numbers: Sequence[int], purpose: Purpose, shape: Sequence[int]) -> Tensor:
    """Returns standard normal noise for samples of given numbers, N×shape, float32 on the CPU."""
    draws = [_generator(seed, n, purpose).standard_normal(tuple(shape), dtype=np.float32) for n in numbers]
    return torch.from_numpy(np.stack(draws))


def uniform_noise(seed: int, numbers: Sequence[int], purpose: Purpose, shape: Sequence[int]) -> Tensor:
    """Returns noise uniform in [0, 1) for samples of given numbers, N×shape, float32 on the CPU."""
    draws = [_generator(seed, n, purpose).random(tuple(shape), dtype=np.float32) for n in numbers]
    return torch.from_numpy(np.stack(draws))


def _generator(seed: int, n: int, purpose: Purpose) -> np.random.Generator:
    # NumPy's, because PyTorch's on the CPU uses only 32 bits of a seed.
    return np.random.default_rng([seed, n, int(purpose)])
