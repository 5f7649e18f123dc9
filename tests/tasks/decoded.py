"""What a decoder might give, and images that a likelihood takes."""

import torch
from torch import Tensor

from img2img.tasks import Likelihood


def suited(likelihood: Likelihood, images: Tensor) -> Tensor:
    return (images > 0.5).float() if likelihood.binary else images


def decoded(likelihood: Likelihood, images: Tensor, spread: float = 0.3) -> Tensor:
    """What a decoder might give."""
    generator = torch.Generator().manual_seed(0)
    n, channels, *size = images.shape
    return spread * torch.randn(n, likelihood.per_value * channels, *size, generator=generator)
