"""Callbacks show or write: grids, checkpoints, averaged weights, throughput, restored images."""

from img2img.callbacks.averaging import AveragedWeights
from img2img.callbacks.checkpoints import BestCheckpoint, FinalValidation, LastCheckpoint
from img2img.callbacks.grid import ReconstructionGrid
from img2img.callbacks.latents import LatentPictures
from img2img.callbacks.linear_reference import LinearReference
from img2img.callbacks.progress import Progress
from img2img.callbacks.projector import LatentProjector
from img2img.callbacks.record import RunRecord
from img2img.callbacks.throughput import Throughput
from img2img.callbacks.writer import ImageWriter

__all__ = [
    "AveragedWeights",
    "BestCheckpoint",
    "FinalValidation",
    "ImageWriter",
    "LastCheckpoint",
    "LatentPictures",
    "LatentProjector",
    "LinearReference",
    "Progress",
    "ReconstructionGrid",
    "RunRecord",
    "Throughput",
]
