"""Plain torch modules that map an image to an image; they know nothing of Lightning or of tasks."""

from img2img.networks.bottleneck import BottleneckAutoencoder
from img2img.networks.inpainting import InpaintingUNet
from img2img.networks.padded import Padded
from img2img.networks.unet import RestorationUNet

__all__ = ["BottleneckAutoencoder", "InpaintingUNet", "Padded", "RestorationUNet"]
