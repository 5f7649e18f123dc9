"""img2img: train image-to-image models on real photographs, restore whole folders with them.

Importing the package is cheap: torch and the rest are imported when a function is first used.
"""

from __future__ import annotations

import importlib
import os
from typing import TYPE_CHECKING, Any

from img2img.version import __version__

if TYPE_CHECKING:
    from img2img.anomaly.calibration import calibrate
    from img2img.anomaly.scoring import score
    from img2img.inference.run import restore
    from img2img.latents.editing import edit
    from img2img.latents.encoding import encode
    from img2img.latents.evaluation import evaluate_latents
    from img2img.latents.interpolation import interpolate
    from img2img.latents.reconstruction import reconstruct
    from img2img.latents.sampling import sample
    from img2img.latents.traversal import traverse
    from img2img.tasks.recipe import build, load
    from img2img.training.packing import pack

# albumentations asks a package index for updates at each import, in every worker process, unless told not to.
os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")

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
    "reconstruct",
    "restore",
    "sample",
    "score",
    "traverse",
]

_MODULES = {
    "build": "img2img.tasks.recipe",
    "calibrate": "img2img.anomaly.calibration",
    "edit": "img2img.latents.editing",
    "encode": "img2img.latents.encoding",
    "evaluate_latents": "img2img.latents.evaluation",
    "interpolate": "img2img.latents.interpolation",
    "load": "img2img.tasks.recipe",
    "pack": "img2img.training.packing",
    "reconstruct": "img2img.latents.reconstruction",
    "restore": "img2img.inference.run",
    "sample": "img2img.latents.sampling",
    "score": "img2img.anomaly.scoring",
    "traverse": "img2img.latents.traversal",
}
"""Where the public functions are defined."""


def __getattr__(name: str) -> Any:
    """Imports the public functions on first use (PEP 562)."""
    if name in _MODULES:
        return getattr(importlib.import_module(_MODULES[name]), name)
    raise AttributeError(f"module 'img2img' has no attribute {name!r}")
