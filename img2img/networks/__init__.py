"""Plain torch modules that map images to images; they know nothing about Lightning or tasks."""

from img2img.networks.bottleneck import BottleneckAutoencoder
from img2img.networks.conv_autoencoder import ConvAutoencoder
from img2img.networks.inpainting_unet import InpaintingUNet
from img2img.networks.latent import DenseAutoencoder, LatentNetwork, LinearAutoencoder
from img2img.networks.memory import bytes_per_pixel
from img2img.networks.padded import Padded
from img2img.networks.published import PublishedNetwork
from img2img.networks.receptive_field import ReceptiveField, receptive_field_of
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
    "ReceptiveField",
    "RestorationUNet",
    "bytes_per_pixel",
    "receptive_field_of",
]
