"""Albumentations transforms that make a clean image worse; they know nothing of torch."""

from img2img.corruptions.noise import GaussianNoise

__all__ = ["GaussianNoise"]
