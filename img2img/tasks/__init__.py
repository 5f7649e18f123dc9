"""LightningModules that know how wrong an output is, the losses they ask, and the recipe that rebuilds them."""

from img2img.tasks.base import Task
from img2img.tasks.losses import Charbonnier
from img2img.tasks.restoration import Restoration

__all__ = ["Charbonnier", "Restoration", "Task"]
