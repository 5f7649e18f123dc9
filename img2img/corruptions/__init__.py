"""Albumentations transforms that corrupt clean images; they know nothing about torch."""

from img2img.corruptions.anomalies import ForeignTexture, PastedPatch, Smears, Warps
from img2img.corruptions.camera import JPEG, CameraNoise
from img2img.corruptions.defects import Chips, Cracks, Pits, Stain
from img2img.corruptions.drawn_masks import Scratches, Strokes, TextMask
from img2img.corruptions.masks import BlindSpots, RandomPixels
from img2img.corruptions.noise import (
    ChromaNoise,
    Clip,
    CorrelatedNoise,
    GaussianNoise,
    PoissonGaussianNoise,
    SpeckleNoise,
)
from img2img.corruptions.photographs import Fading

__all__ = [
    "JPEG",
    "BlindSpots",
    "CameraNoise",
    "Chips",
    "ChromaNoise",
    "Clip",
    "CorrelatedNoise",
    "Cracks",
    "Fading",
    "ForeignTexture",
    "GaussianNoise",
    "PastedPatch",
    "Pits",
    "PoissonGaussianNoise",
    "RandomPixels",
    "Scratches",
    "Smears",
    "SpeckleNoise",
    "Stain",
    "Strokes",
    "TextMask",
    "Warps",
]
