"""Images become batches: folders, decoded-image cache, sample stream, data modules."""

from img2img.data.corrupted_pairs import CorruptedPairs
from img2img.data.folder_pairs import FolderPairs
from img2img.data.image_folder import ImageFolder
from img2img.data.stream_data import PairedData
from img2img.data.whole_images import WholeImages

__all__ = ["CorruptedPairs", "FolderPairs", "ImageFolder", "PairedData", "WholeImages"]
