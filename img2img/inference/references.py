"""PSNR and SSIM of restored images against references."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path

import torch

from img2img.data.matching import match_names
from img2img.imaging.files import find_images, read_image, to_channels, to_float
from img2img.imaging.reading import read_header
from img2img.inference.jobs import Job
from img2img.tasks.metrics import PSNR, SSIM, Images, as_8_bit

MOST_PIXELS = 50_000_000
"""Larger images are not scored, because scoring holds whole images in memory."""


class References:
    """Scores finished files against a folder of references.

    Args:
        folder: The references, matched by relative path, whatever the extension.
        names: The outputs' names, relative to their folder.
    """

    def __init__(self, folder: Path, names: list[str]) -> None:
        self.folder, self.names = folder, names

    @cached_property
    def _pairs(self) -> dict[str, str]:
        references = [path.relative_to(self.folder).as_posix() for path in find_images(self.folder)]
        return match_names(self.names, references).pairs

    def __call__(self, job: Job) -> dict[str, float]:
        """Returns PSNR in dB and SSIM of an output, rounded to 8 bits; empty without a reference of its size."""
        name = self._pairs.get(job.name)
        if name is None:
            return {}
        header = read_header(job.destination)
        if header.width * header.height > MOST_PIXELS:
            return {}
        output, target = read_image(job.destination).pixels, read_image(self.folder / name).pixels
        if output.shape[:2] != target.shape[:2]:
            return {}
        restored, truth = (
            torch.from_numpy(to_float(to_channels(pixels, output.shape[2]))).permute(2, 0, 1)[None]
            for pixels in (output, target)
        )
        images = Images(restored, as_8_bit(restored), truth, torch.zeros_like(restored[:, :1]))
        scores = {"PSNR": PSNR()(images)["psnr"]}
        ssim = SSIM()(images)  # tiny images have none
        return scores | ({"SSIM": ssim["ssim"]} if ssim else {})
