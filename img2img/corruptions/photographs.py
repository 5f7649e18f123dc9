"""What time does to photographs."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from img2img.corruptions.base import FloatTransform, Range, bounds

_DEEPEST = 1 / 255
"""What counts as a print's deepest black: it has a density, and so fades; 0 has none."""

_YELLOW = (0.1, 0.35, 1.0)
"""How much of the stain red, green and blue light meet: our choice of a paper's yellow."""


class Fading(FloatTransform):
    """Fades a colour photograph: its dyes lose density, each at its own rate, and its paper yellows.

    In optical density D = -log10(x), channel by channel: D becomes (1 - lost) · D, that is x becomes x^(1 - lost), so
    that whites stay and blacks are lifted; then the paper's stain takes its share of all light, of the blue most:
    x · (1 - stain · (0.1, 0.35, 1)). The part lost is strength · (1 + cast · u) with u drawn from [-1, 1] for each
    channel. As x is a power of light in the usual colour spaces, this holds without going back to light.

    That dyes fade at different rates and that stain forms in the whites is described by Wilhelm and Brower, "The
    Permanence and Care of Color Photographs", 1993. The model is a simple one and the numbers are ours, not theirs:
    channels stand for dyes, though real dyes absorb some of the others' light.

    Takes float32 H×W×3, or H×W×1, which gets no cast; returns float32 in [0, 1] (and clips what was outside, so it
    stands before unclipped noise).

    Args:
        strength: Part of the density that is lost, in [0, 1], or a range.
        cast: How much the channels differ in that, in [0, 1], or a range: 0 is alike, 1 from nothing to twice.
        stain: Part of the blue light that yellowed paper keeps, in [0, 1], or a range.
        p: Probability of applying it.

    Raises:
        ValueError: If a number lies outside [0, 1] or a range is reversed.
    """

    unclipped = False

    def __init__(
        self,
        strength: Range = (0.1, 0.6),
        cast: Range = (0.0, 0.6),
        stain: Range = (0.0, 0.25),
        p: float = 1.0,
    ) -> None:
        given = {"strength": strength, "cast": cast, "stain": stain}
        super().__init__(p, **{name: bounds(name, value, most=1) for name, value in given.items()})

    def corrupt(
        self,
        img: NDArray[np.float32],
        strength: float = 0.0,
        cast: float = 0.0,
        stain: float = 0.0,
        **params: Any,
    ) -> NDArray[np.float32]:
        """Returns the faded image, in [0, 1]."""
        coloured = img.ndim == 3 and img.shape[2] == 3
        spread = self.random_generator.uniform(-1, 1, 3) if coloured else np.zeros(1)
        kept = 1 - np.clip(strength * (1 + cast * spread), 0, 1)
        paper = 1 - stain * np.array(_YELLOW if coloured else _YELLOW[1:2])
        faded = np.power(np.clip(img, _DEEPEST, 1), kept.astype(np.float32))
        faded *= paper.astype(np.float32)
        return faded
