"""Callbacks that show or write: image grids, checkpoints, averaged weights, throughput."""

from img2img.callbacks.averaging import AveragedWeights
from img2img.callbacks.checkpoints import BestCheckpoint, FinalValidation, LastCheckpoint
from img2img.callbacks.grid import ReconstructionGrid
from img2img.callbacks.latents import LatentPictures
from img2img.callbacks.opening import Opening
from img2img.callbacks.pca_baseline import PCABaseline
from img2img.callbacks.progress import Progress
from img2img.callbacks.projector import LatentProjector
from img2img.callbacks.record import RunRecord
from img2img.callbacks.throughput import Throughput

__all__ = [
    "AveragedWeights",
    "BestCheckpoint",
    "FinalValidation",
    "LastCheckpoint",
    "LatentPictures",
    "LatentProjector",
    "Opening",
    "PCABaseline",
    "Progress",
    "ReconstructionGrid",
    "RunRecord",
    "Throughput",
]
