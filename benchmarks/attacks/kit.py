"""What all attacks share: the table of them, hostile files, and a program without network."""

from __future__ import annotations

import io
import os
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

import img2img
from tests.tasks.forged import archive

SECONDS, MEGABYTES = 60, 1500
RECIPE: dict[str, Any] = {
    "class_path": "img2img.tasks.Restoration",
    "init_args": {"network": {"class_path": "img2img.networks.RestorationUNet", "init_args": {"channels": [8, 8]}}},
}
RESTORE = ["restore", "photos", "out", "--model", "m.ckpt", "--accelerator", "cpu"]
FIT = ["fit", "--config", "c.yaml", "--trainer.accelerator=cpu", "--trainer.max_steps=1"]
DATA = "data: {class_path: CorruptedPairs, init_args: {root: photos, crop_size: 16, batch_size: 1}}\n"
NET = "{class_path: RestorationUNet, init_args: {channels: [8, 8]}}"
CONFIG = f"model: {{class_path: Restoration, init_args: {{network: {NET}}}}}\n{DATA}"
SHIPPED = ["restore", "photos", "out", "--model", "denoise", "--accelerator", "cpu", "--memory", "2GB"]
Attack = Callable[[], list[str]]
ATTACKS: dict[str, Attack] = {}


class Evil:
    """Pickles as a call of `os.system`."""

    def __reduce__(self) -> Any:
        return os.system, ("touch RAN",)


def attack(name: str) -> Callable[[Attack], Attack]:
    """Registers an attack, which prepares files and returns the command."""
    return lambda function: ATTACKS.setdefault(name, function)


def save(recipe: Any, **others: Any) -> list[str]:
    """Writes m.ckpt with a recipe; returns the command that restores with it."""
    about = {"format": 1, "version": "0", "recipe": recipe}
    state = {} if "Upsample" in str(recipe) else img2img.build(RECIPE).state_dict()
    torch.save({"state_dict": state, "img2img": about} | others, "m.ckpt")
    return RESTORE


def with_network(path: str, **arguments: Any) -> dict[str, Any]:
    """Returns the recipe of a task around a network."""
    return {
        "class_path": "img2img.tasks.Restoration",
        "init_args": {"network": {"class_path": path, "init_args": arguments}},
    }


def config(text: str, *flags: str) -> list[str]:
    """Writes c.yaml; returns the command that trains with it."""
    Path("c.yaml").write_text(text)
    return [*FIT, *flags]


def shared(levels: int = 60) -> list[Any]:
    """Returns a list that holds a list twice, and so on."""
    value: list[Any] = [0]
    for _ in range(levels):
        value = [value, value]
    return value


def forged(body: bytes, *more: Any, **records: bytes) -> list[str]:
    """Writes m.ckpt with a pickle made by hand; returns the command that restores with it."""
    archive(Path("m.ckpt"), body, *more, **records)
    return RESTORE


def photo() -> bytes:
    """Returns a small PNG."""
    file = io.BytesIO()
    Image.fromarray(np.arange(48 * 48 * 3, dtype=np.uint8).reshape(48, 48, 3)).save(file, "PNG")
    return file.getvalue()


CONNECT = socket.socket.connect


def refuse(self: socket.socket, address: Any) -> None:
    """Notes a connection and refuses it."""
    if self.family == socket.AF_UNIX:
        return CONNECT(self, address)
    Path("CONNECTED").write_text(str(address))
    raise OSError("no network")


PROGRAM = """
import socket, sys
from benchmarks.attacks.kit import refuse
socket.socket.connect = refuse
from img2img.cli import main
main(sys.argv[1:])
"""
ENVIRONMENT = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])}
