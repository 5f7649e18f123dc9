"""What normal images look like as a whole, for tasks whose networks see only a part at a time."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch.nn.functional as F
from torch import Tensor

from img2img.tasks.autoencoding import Distribution
from img2img.tasks.pca import PrincipalComponents


@dataclass(frozen=True, eq=False)
class Look:
    """The principal components of copies of normal images at one size.

    Attributes:
        pca: The components.
        error: Mean squared error of each pixel of a copy over the training images, side×side.
    """

    pca: PrincipalComponents
    error: Tensor

    def small(self, image: Tensor) -> Tensor:
        """Returns copies of images N×C×H×W, N×C×side×side."""
        return small_copies(image, len(self.error))


@dataclass(frozen=True, eq=False)
class Appearance:
    """What normal images look like at several sizes, and how scores of held-out ones are spread.

    Attributes:
        looks: One for each size.
        spreads: Of some scores, the centre and the spread of their logarithms over held-out normal images.
        pixels: The same of the pixels of maps; empty in checkpoints from before.
        copies: How the pixels of very small copies of the training images are distributed, and the copies as `codes`;
            None in checkpoints from before.
    """

    looks: tuple[Look, ...]
    spreads: Mapping[str, tuple[float, float]]
    pixels: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    copies: Distribution | None = None

    def plain(self) -> dict[str, Any]:
        """Returns it as tensors and numbers, for a checkpoint."""
        looks = [{"pca": look.pca.plain(), "error": look.error} for look in self.looks]
        pairs = {"spreads": self.spreads, "pixels": self.pixels}
        known = {} if self.copies is None else {"copies": self.copies.plain()}
        plain = {key: {name: list(pair) for name, pair in of.items()} for key, of in pairs.items()}
        return {"looks": looks} | plain | known

    @classmethod
    def from_plain(cls, plain: Mapping[str, Any]) -> Appearance:
        """Rebuilds it from the result of `plain`; checkpoints from before hold one size."""
        looks = [Look(PrincipalComponents(**look["pca"]), look["error"]) for look in plain.get("looks", [plain])]
        copies = Distribution.from_plain(plain.get("copies", {}))
        return cls(tuple(looks), _pairs(plain["spreads"]), _pairs(plain.get("pixels", {})), copies)


def _pairs(plain: Mapping[str, Any]) -> dict[str, tuple[float, float]]:
    return {name: (float(centre), float(spread)) for name, (centre, spread) in plain.items()}


def small_copies(image: Tensor, side: int) -> Tensor:
    """Returns images N×C×H×W scaled to N×C×side×side float32 as a whole, by area."""
    return F.interpolate(image.float(), (side, side), mode="area")
