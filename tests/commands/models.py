"""Checkpoints that need no training."""

from pathlib import Path
from typing import Any

import numpy as np
import torch

import img2img
from img2img.tasks import Task
from img2img.tasks.autoencoding import Statistics
from img2img.tasks.checkpoint import CHECKPOINT_FORMAT, CHECKPOINT_KEY
from img2img.tasks.pca import fit_principal

RECIPE = {
    "class_path": "img2img.tasks.Restoration",
    "init_args": {
        "network": {
            "class_path": "img2img.networks.RestorationUNet",
            "init_args": {"channels": [8, 8], "blocks": 1},
        }
    },
}

FILLING = {
    "class_path": "img2img.tasks.Inpainting",
    "init_args": {
        "network": {
            "class_path": "img2img.networks.RestorationUNet",
            "init_args": {"channels": [8, 8], "blocks": 1, "in_channels": 4, "out_channels": 3, "residual": False},
        }
    },
}

UNCERTAIN = {
    "class_path": "img2img.tasks.UncertainRestoration",
    "init_args": {
        "network": {
            "class_path": "img2img.networks.RestorationUNet",
            "init_args": {"channels": [8, 8], "blocks": 1, "out_channels": 6, "bias": True},
        }
    },
}


def save_model(path: Path, change: float = 0.0, seed: int = 0, recipe: dict[str, Any] = RECIPE) -> Path:
    """Writes a small network that returns its input, as untrained ones do, or changes it by noise in its weights."""
    task = img2img.build(recipe)
    generator = torch.Generator().manual_seed(seed)
    weights = {
        name: value + change * torch.randn(value.shape, generator=generator)
        for name, value in task.state_dict().items()
    }
    about = {"format": CHECKPOINT_FORMAT, "recipe": recipe}
    torch.save({CHECKPOINT_KEY: about, "state_dict": weights}, path)
    return path


AUTOENCODER = {
    "class_path": "img2img.tasks.Autoencoder",
    "init_args": {
        "network": {
            "class_path": "img2img.networks.DenseAutoencoder",
            "init_args": {"image_size": [12, 16], "latent_dim": 3, "hidden": [8]},
        }
    },
}


def save_autoencoder(path: Path, images: np.ndarray | None = None) -> Path:
    """Writes an untrained autoencoder of gray images 12×16, with the components of images N×1×12×16 if given."""
    torch.manual_seed(0)
    task = img2img.build(AUTOENCODER)
    if images is not None:
        task.statistics = Statistics(pca=fit_principal([images], 3))
    return save_task(path, task)


def save_task(path: Path, task: Task) -> Path:
    """Writes a task as `fit` does, without what resuming needs."""
    checkpoint: dict[str, Any] = {"state_dict": task.state_dict()}
    task.on_save_checkpoint(checkpoint)
    torch.save(checkpoint, path)
    return path
