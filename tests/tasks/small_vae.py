"""A small variational autoencoder, with its data and its trainer."""

import torch

from img2img.data import WholeImages
from img2img.networks import ConvAutoencoder
from img2img.tasks import VariationalAutoencoder
from img2img.trainer import Trainer


def data_of(faces, batch_size=4, **kwargs) -> WholeImages:
    kwargs = {"num_workers": 0, "seed": 0} | kwargs
    return WholeImages(image_size=[16, 16], root=str(faces), channels=1, batch_size=batch_size, **kwargs)


def tiny(likelihood=None, **kwargs) -> VariationalAutoencoder:
    torch.manual_seed(0)
    per_value = 1 if likelihood is None else likelihood.per_value
    network = ConvAutoencoder([16, 16], channels=[8, 8], latent_dim=4, per_latent=2, per_value=per_value)
    return VariationalAutoencoder(network, likelihood, **kwargs)


def trainer_of(**kwargs) -> Trainer:
    quiet = {"logger": False, "enable_checkpointing": False, "enable_model_summary": False}
    return Trainer(accelerator="cpu", enable_progress_bar=False, **quiet, **({"precision": "32-true"} | kwargs))
