"""Turns folders of images into batches: data modules, sample stream, decoded-image cache."""

from img2img.data.corrupted_pairs import CorruptedPairs
from img2img.data.folder_pairs import FolderPairs
from img2img.data.paired_data import PairedData
from img2img.data.whole_images import WholeImages

__all__ = ["CorruptedPairs", "FolderPairs", "PairedData", "WholeImages"]
