"""LightningModules that know how wrong an output is, the losses they ask, and the recipe that rebuilds them."""

from img2img.tasks.base import Task
from img2img.tasks.colorization import Colorization
from img2img.tasks.inpainting import Inpainting
from img2img.tasks.losses import Charbonnier, ChromaClasses, ChromaLoss
from img2img.tasks.metrics import PSNR, SSIM, ChromaPSNR, Colorfulness, DeltaE2000, HolePSNR
from img2img.tasks.restoration import Restoration

__all__ = [
    "PSNR",
    "SSIM",
    "Charbonnier",
    "ChromaClasses",
    "ChromaLoss",
    "ChromaPSNR",
    "Colorfulness",
    "Colorization",
    "DeltaE2000",
    "HolePSNR",
    "Inpainting",
    "Restoration",
    "Task",
]
