"""Albumentations transforms that make a clean image worse; they know nothing of torch."""

from img2img.corruptions.noise import Clip, CorrelatedNoise, GaussianNoise, PoissonGaussianNoise, SpeckleNoise

__all__ = ["Clip", "CorrelatedNoise", "GaussianNoise", "PoissonGaussianNoise", "SpeckleNoise"]
