"""img2img: train image-to-image models on real photographs, restore whole folders with them.

Importing the package is cheap: torch and the rest are imported when a function is first used.
"""

from __future__ import annotations

import importlib
import os
import sys
from typing import TYPE_CHECKING, Any

# `python -m img2img` puts the working directory first, before the standard library: a file of a module's name there,
# such as csv.py, would run. Until the package is found, its argv begins with -m.
if sys.argv[:1] == ["-m"] and "img2img" in sys.orig_argv and not sys.flags.safe_path:
    del sys.path[0]

from img2img.version import __version__

if TYPE_CHECKING:
    from img2img.anomaly.calibration import calibrate as calibrate
    from img2img.anomaly.scoring import score as score
    from img2img.data.sharding import shard as shard
    from img2img.exporting.export import export as export
    from img2img.inference.run import restore as restore
    from img2img.latents.editing import edit as edit
    from img2img.latents.encoding import encode as encode
    from img2img.latents.evaluation import evaluate_latents as evaluate_latents
    from img2img.latents.interpolation import interpolate as interpolate
    from img2img.latents.reconstruction import reconstruct as reconstruct
    from img2img.latents.sampling import sample as sample
    from img2img.latents.traversal import traverse as traverse
    from img2img.tasks.recipe import build as build
    from img2img.tasks.recipe import load as load
    from img2img.training.packing import pack as pack
    from img2img.training.sweep import sweep as sweep

# albumentations asks a package index for updates at each import, in every worker process, unless told not to.
os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")

_MODULES = {
    "build": "tasks.recipe",
    "calibrate": "anomaly.calibration",
    "edit": "latents.editing",
    "encode": "latents.encoding",
    "evaluate_latents": "latents.evaluation",
    "export": "exporting.export",
    "interpolate": "latents.interpolation",
    "load": "tasks.recipe",
    "pack": "training.packing",
    "reconstruct": "latents.reconstruction",
    "restore": "inference.run",
    "sample": "latents.sampling",
    "score": "anomaly.scoring",
    "shard": "data.sharding",
    "sweep": "training.sweep",
    "traverse": "latents.traversal",
}
"""Where the public functions are defined."""

__all__ = ["__version__", *_MODULES]  # noqa: PLE0604  type checkers see the imports above


def __getattr__(name: str) -> Any:
    """Imports the public functions on first use (PEP 562)."""
    if name in _MODULES:
        return getattr(importlib.import_module(f"img2img.{_MODULES[name]}"), name)
    raise AttributeError(f"module 'img2img' has no attribute {name!r}")
