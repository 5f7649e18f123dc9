"""Learning-rate schedules: factors on the learning rate over the steps of a run."""

from __future__ import annotations

import math


def warmup_cosine(
    step: int, warmup_steps: int, total_steps: float, final_share: float, time_share: float = 0.0
) -> float:
    """Returns the factor on the learning rate at a step: linear warm-up, then a half cosine (SGDR, Loshchilov 2017).

    Args:
        step: Optimizer steps taken so far.
        warmup_steps: Length of the warm-up.
        total_steps: Length of the run, infinite if steps do not limit it.
        final_share: The factor at the end.
        time_share: Fraction of the run's time limit that has passed, 0 without a limit. The nearer limit decides;
            without any limit the learning rate stays at its peak.

    Returns:
        A factor in (0, 1].
    """
    if step < warmup_steps:
        return (step + 1) / (warmup_steps + 1)
    steps_share = 0.0 if math.isinf(total_steps) else (step - warmup_steps) / max(1.0, total_steps - warmup_steps)
    progress = min(1.0, max(steps_share, time_share))
    return final_share + (1 - final_share) * 0.5 * (1 + math.cos(math.pi * progress))


def warmup_stable_decay(
    step: int, warmup_steps: int, decay_from: int | None, decay_steps: int, final_share: float
) -> float:
    """Returns the factor on the learning rate at a step of a run whose end may be unknown.

    Linear warm-up, then constant, then a decay from a given step: "warm-up-stable-decay" (Hu et al., "MiniCPM",
    COLM 2024), with the decay 1 - sqrt(progress) that Hägele et al. (NeurIPS 2024) found best.

    Args:
        step: Optimizer steps taken so far.
        warmup_steps: Length of the warm-up.
        decay_from: First step of the decay; None while it is unknown.
        decay_steps: Length of the decay.
        final_share: The factor at its end.

    Returns:
        A factor in (0, 1].
    """
    rising = min(1.0, (step + 1) / (warmup_steps + 1))
    if decay_from is None or step < decay_from:
        return rising
    progress = min(1.0, (step - decay_from) / max(1, decay_steps))
    return rising * (final_share + (1 - final_share) * (1 - math.sqrt(progress)))
