"""Plain torch modules that map an image to an image; they know nothing of Lightning or of tasks."""

from img2img.networks.bottleneck import BottleneckAutoencoder
from img2img.networks.unet import RestorationUNet

__all__ = ["BottleneckAutoencoder", "RestorationUNet"]
