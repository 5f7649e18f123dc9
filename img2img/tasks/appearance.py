"""What normal images look like as a whole, for tasks whose networks see only a part at a time."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch.nn.functional as F
from torch import Tensor

from img2img.tasks.pca import PrincipalComponents


@dataclass(frozen=True, eq=False)
class Appearance:
    """The principal components of small copies of normal images, and how scores of held-out ones are spread.

    Attributes:
        pca: The components.
        error: Mean squared error of each pixel of a copy over the training images, side×side.
        spreads: Of some scores, the centre and the spread over held-out normal images.
    """

    pca: PrincipalComponents
    error: Tensor
    spreads: Mapping[str, tuple[float, float]]

    def small(self, image: Tensor) -> Tensor:
        """Returns copies of images N×C×H×W, N×C×side×side."""
        return small_copies(image, len(self.error))

    def plain(self) -> dict[str, Any]:
        """Returns it as tensors and numbers, for a checkpoint."""
        return {"pca": self.pca.plain(), "error": self.error, "spreads": {k: list(v) for k, v in self.spreads.items()}}

    @classmethod
    def from_plain(cls, plain: Mapping[str, Any]) -> Appearance:
        """Rebuilds it from the result of `plain`."""
        spreads = {name: (float(centre), float(spread)) for name, (centre, spread) in plain["spreads"].items()}
        return cls(PrincipalComponents(**plain["pca"]), plain["error"], spreads)


def small_copies(image: Tensor, side: int) -> Tensor:
    """Returns images N×C×H×W scaled to N×C×side×side float32 as a whole, by area."""
    return F.interpolate(image.float(), (side, side), mode="area")
