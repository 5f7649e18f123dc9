"""Tasks, which are LightningModules, their losses and metrics, and the recipes that rebuild them."""

from img2img.tasks.anomaly_segmentation import AnomalySegmentation
from img2img.tasks.autoencoding import Autoencoder, ReconstructionError
from img2img.tasks.base import Task
from img2img.tasks.colorization import Colorization
from img2img.tasks.inpainting import Inpainting
from img2img.tasks.likelihoods import (
    Bernoulli,
    DiscretizedLogistic,
    Laplace,
    Likelihood,
    PixelGaussian,
    SharedGaussian,
)
from img2img.tasks.losses import Charbonnier, ChromaClasses, ChromaLoss, FocalDice, PSNRLoss
from img2img.tasks.metrics import PSNR, SSIM, ChromaPSNR, Colorfulness, DeltaE2000, HolePSNR, MaskPrecision
from img2img.tasks.muon import MuonAdamW
from img2img.tasks.paired import PairedTask
from img2img.tasks.restoration import Restoration
from img2img.tasks.uncertain import UncertainRestoration
from img2img.tasks.variational import VariationalAutoencoder

__all__ = [
    "PSNR",
    "SSIM",
    "AnomalySegmentation",
    "Autoencoder",
    "Bernoulli",
    "Charbonnier",
    "ChromaClasses",
    "ChromaLoss",
    "ChromaPSNR",
    "Colorfulness",
    "Colorization",
    "DeltaE2000",
    "DiscretizedLogistic",
    "FocalDice",
    "HolePSNR",
    "Inpainting",
    "Laplace",
    "Likelihood",
    "MaskPrecision",
    "MuonAdamW",
    "PSNRLoss",
    "PairedTask",
    "PixelGaussian",
    "ReconstructionError",
    "Restoration",
    "SharedGaussian",
    "Task",
    "UncertainRestoration",
    "VariationalAutoencoder",
]
