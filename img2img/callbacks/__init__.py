"""Callbacks that show or write: image grids, checkpoints, averaged weights, throughput."""

from img2img.callbacks.averaging import AveragedWeights as AveragedWeights
from img2img.callbacks.checkpoints import BestCheckpoint as BestCheckpoint
from img2img.callbacks.checkpoints import FinalValidation as FinalValidation
from img2img.callbacks.checkpoints import LastCheckpoint as LastCheckpoint
from img2img.callbacks.divergence import DivergenceGuard as DivergenceGuard
from img2img.callbacks.grid import ReconstructionGrid as ReconstructionGrid
from img2img.callbacks.interruption import Interruption as Interruption
from img2img.callbacks.latents import LatentPictures as LatentPictures
from img2img.callbacks.leaks import LeakCheck as LeakCheck
from img2img.callbacks.opening import Opening as Opening
from img2img.callbacks.pca_baseline import PCABaseline as PCABaseline
from img2img.callbacks.progress import Progress as Progress
from img2img.callbacks.projector import LatentProjector as LatentProjector
from img2img.callbacks.record import RunRecord as RunRecord
from img2img.callbacks.record import SavedConfig as SavedConfig
from img2img.callbacks.throughput import Throughput as Throughput
from img2img.callbacks.trial import TrialReport as TrialReport
