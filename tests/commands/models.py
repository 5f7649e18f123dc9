"""Checkpoints that need no training."""

from pathlib import Path

import torch

import img2img
from img2img.tasks.checkpoint import CHECKPOINT_FORMAT, CHECKPOINT_KEY

RECIPE = {
    "class_path": "img2img.tasks.Restoration",
    "init_args": {
        "network": {
            "class_path": "img2img.networks.RestorationUNet",
            "init_args": {"channels": [8, 8], "blocks": 1},
        }
    },
}


def save_model(path: Path, change: float = 0.0, seed: int = 0) -> Path:
    """Writes a small network that returns its input, as untrained ones do, or changes it by noise in its weights."""
    task = img2img.build(RECIPE)
    generator = torch.Generator().manual_seed(seed)
    weights = {
        name: value + change * torch.randn(value.shape, generator=generator)
        for name, value in task.state_dict().items()
    }
    about = {"format": CHECKPOINT_FORMAT, "recipe": RECIPE}
    torch.save({CHECKPOINT_KEY: about, "state_dict": weights}, path)
    return path
