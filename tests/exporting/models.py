"""Small models to export, with weights that change the image."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

import img2img
from img2img.networks import InpaintingUNet
from img2img.tasks import Inpainting, Task

UNET = "img2img.networks.RestorationUNet"
SMALL = {"channels": [8, 8], "blocks": 1}


def recipe(task: str, **network: Any) -> dict[str, Any]:
    """Returns the recipe of a task with a small U-Net."""
    return {"class_path": task, "init_args": {"network": {"class_path": UNET, "init_args": SMALL | network}}}


def changed(task: Task, by: float = 0.1) -> Task:
    """Returns the task in eval mode with random weights, the same each time."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for weights in task.network.parameters():
            weights.copy_(by * torch.randn(weights.shape, generator=generator))
    return task.eval()


def denoiser() -> Task:
    return changed(img2img.build(recipe("Restoration")))


def uncertain() -> Task:
    return changed(img2img.build(recipe("UncertainRestoration", out_channels=6, bias=True)))


def colouriser() -> Task:
    return changed(img2img.build(recipe("Colorization", in_channels=1, out_channels=2, bias=True, residual=False)))


def segmenter() -> Task:
    return changed(img2img.build(recipe("AnomalySegmentation", in_channels=1, out_channels=2, bias=True)))


def filler() -> Task:
    """With the padding of the default inpainting network, which only the network itself can do."""
    return changed(Inpainting(InpaintingUNet(4, (8, 8), 1, levels=2)))


def autoencoder() -> Task:
    network = {"image_size": [20, 12], "channels": [8, 8], "latent_dim": 3}
    made = {"class_path": "ConvAutoencoder", "init_args": network}
    return changed(img2img.build({"class_path": "Autoencoder", "init_args": {"network": made}}))


class Doubling(nn.Module):
    """A third-party network that enlarges, of a receptive field that is found by probing."""

    in_channels, scale = 3, 2

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 12, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.pixel_shuffle(self.conv(x), 2)


class Random(nn.Module):
    """Never gives the same image twice."""

    in_channels = 3

    def forward(self, x: Tensor) -> Tensor:
        return x + 0.1 * torch.rand_like(x)


class Deciding(nn.Module):
    """Decides by the values of the image, which a graph cannot."""

    in_channels = 3

    def forward(self, x: Tensor) -> Tensor:
        return x if float(x.mean()) > 0.5 else 1 - x
