"""img2img: train image-to-image models on real photographs, restore whole folders with them.

Importing the package is cheap: torch and the rest are imported when a function is first used.
"""

from __future__ import annotations

import os
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from img2img.commands.restore import restore
    from img2img.tasks.recipe import build, load

# albumentations asks a package index for updates at each import, in every worker process, unless told not to.
os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")

__version__ = version("img2img")
__all__ = ["__version__", "build", "load", "restore"]


def __getattr__(name: str) -> Any:
    """Imports the public functions on first use (PEP 562)."""
    if name in ("build", "load"):
        from img2img.tasks import recipe

        return getattr(recipe, name)
    if name == "restore":
        from img2img.commands.restore import restore

        return restore
    raise AttributeError(f"module 'img2img' has no attribute {name!r}")
