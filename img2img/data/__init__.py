"""Images become batches: folders, decoded-image cache, sample stream, data modules."""

from img2img.data.corrupted_pairs import CorruptedPairs
from img2img.data.image_folder import ImageFolder

__all__ = ["CorruptedPairs", "ImageFolder"]
