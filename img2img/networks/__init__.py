"""Plain torch modules that map an image to an image; they know nothing of Lightning or of tasks."""

from img2img.networks.bottleneck import BottleneckAutoencoder
from img2img.networks.conv_autoencoder import ConvAutoencoder
from img2img.networks.footprint import bytes_per_pixel
from img2img.networks.inpainting import InpaintingUNet
from img2img.networks.latent import DenseAutoencoder, LatentNetwork, LinearAutoencoder
from img2img.networks.padded import Padded
from img2img.networks.published import PublishedNetwork
from img2img.networks.reach import Reach, reach_of
from img2img.networks.unet import RestorationUNet

__all__ = [
    "BottleneckAutoencoder",
    "ConvAutoencoder",
    "DenseAutoencoder",
    "InpaintingUNet",
    "LatentNetwork",
    "LinearAutoencoder",
    "Padded",
    "PublishedNetwork",
    "Reach",
    "RestorationUNet",
    "bytes_per_pixel",
    "reach_of",
]
