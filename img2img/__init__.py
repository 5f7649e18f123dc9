"""img2img: train image-to-image models on real photographs, restore whole folders with them.

Importing the package is cheap: torch and the rest are imported when a function is first used.
"""

from __future__ import annotations

import importlib
import os
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from img2img.commands.calibrate import calibrate
    from img2img.commands.edit import edit
    from img2img.commands.encode import encode
    from img2img.commands.evaluate_latents import evaluate_latents
    from img2img.commands.interpolate import interpolate
    from img2img.commands.pack import pack
    from img2img.commands.restore import restore
    from img2img.commands.sample import sample
    from img2img.commands.score import score
    from img2img.commands.traverse import traverse
    from img2img.tasks.recipe import build, load

# albumentations asks a package index for updates at each import, in every worker process, unless told not to.
os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")

__version__ = version("img2img")
__all__ = [
    "__version__",
    "build",
    "calibrate",
    "edit",
    "encode",
    "evaluate_latents",
    "interpolate",
    "load",
    "pack",
    "restore",
    "sample",
    "score",
    "traverse",
]

_MODULES = {
    "build": "img2img.tasks.recipe",
    "calibrate": "img2img.commands.calibrate",
    "edit": "img2img.commands.edit",
    "encode": "img2img.commands.encode",
    "evaluate_latents": "img2img.commands.evaluate_latents",
    "interpolate": "img2img.commands.interpolate",
    "load": "img2img.tasks.recipe",
    "pack": "img2img.commands.pack",
    "restore": "img2img.commands.restore",
    "sample": "img2img.commands.sample",
    "score": "img2img.commands.score",
    "traverse": "img2img.commands.traverse",
}
"""Where the public functions are defined."""


def __getattr__(name: str) -> Any:
    """Imports the public functions on first use (PEP 562)."""
    if name in _MODULES:
        return getattr(importlib.import_module(_MODULES[name]), name)
    raise AttributeError(f"module 'img2img' has no attribute {name!r}")
