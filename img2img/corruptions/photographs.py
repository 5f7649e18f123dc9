"""Ageing of photographs."""

from __future__ import annotations

from typing import Any

import numpy as np

from img2img.corruptions.base import Float, FloatTransform, Range, bounds

_DEEPEST = 1 / 255  # a print's deepest black: its density is finite, so it fades, unlike the infinite density of 0
_YELLOW = (0.1, 0.35, 1.0)  # how strongly the stain absorbs red, green and blue light: our choice of a paper's yellow


class Fading(FloatTransform):
    """Fades a colour photograph: its dyes lose density, each at its own rate, and its paper yellows.

    In each channel, x becomes x^(1 - lost), because the optical density -log10(x) loses the fraction
    lost = strength · (1 + cast · u), with u drawn from [-1, 1] for each channel: whites stay and blacks are lifted.
    Then the paper's stain absorbs some light, mostly blue: x · (1 - stain · (0.1, 0.35, 1)). x is a power of light in
    the common colour spaces, so no conversion to linear light is needed.

    Wilhelm and Brower, "The Permanence and Care of Color Photographs", 1993, describe that dyes fade at different rates
    and that stain forms in the whites. The model is simple and its numbers are ours, not theirs: each channel stands
    for a dye, though real dyes also absorb some of the others' light.

    Takes float32 H×W×3, or H×W×1, which gets no cast; returns float32 clipped to [0, 1], so place it before unclipped
    noise.

    Args:
        strength: Fraction of the density that is lost, in [0, 1], or a range.
        cast: How much the loss differs between channels, in [0, 1], or a range: 0 not at all, 1 from nothing to twice.
        stain: Fraction of the blue light that yellowed paper absorbs, in [0, 1], or a range.
        p: Probability of applying it.

    Raises:
        ValueError: If a number is outside [0, 1] or a range is reversed.
    """

    unclipped = False

    def __init__(
        self, strength: Range = (0.1, 0.6), cast: Range = (0.0, 0.6), stain: Range = (0.0, 0.25), p: float = 1.0
    ) -> None:
        given = {"strength": strength, "cast": cast, "stain": stain}
        super().__init__(p, **{name: bounds(name, value, most=1) for name, value in given.items()})

    def corrupt(self, img: Float, strength: float = 0.0, cast: float = 0.0, stain: float = 0.0, **params: Any) -> Float:
        """Returns the faded image, in [0, 1]."""
        coloured = img.ndim == 3 and img.shape[2] == 3
        spread = self.random_generator.uniform(-1, 1, 3) if coloured else np.zeros(1)
        kept = 1 - np.clip(strength * (1 + cast * spread), 0, 1)
        paper = 1 - stain * np.array(_YELLOW if coloured else _YELLOW[1:2])
        faded = np.power(np.clip(img, _DEEPEST, 1), kept.astype(np.float32))
        faded *= paper.astype(np.float32)
        return faded
