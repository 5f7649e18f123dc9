"""PSNR and SSIM of restored images against references."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path

import torch
from torch import Tensor

from img2img.data.matching import match_names
from img2img.errors import UserError
from img2img.imaging.files import find_images, to_channels, to_float
from img2img.imaging.formats import Header
from img2img.imaging.reading import RowReader, UnreadableImage, open_rows, read_header
from img2img.inference.jobs import Job
from img2img.tasks.metrics import MAX_PSNR, WINDOW, as_8_bit, similarities
from img2img.tiling.planner import Planner

_STRIP = 200_000
"""Pixels that are read at a time, so that memory does not grow with the image."""
_COLUMNS = 1000
"""Columns whose similarities are computed at a time: each pixel takes 750 bytes."""
_REACH = WINDOW // 2


class References:
    """Scores finished files against a folder of references.

    Args:
        folder: The references, matched by relative path, whatever the extension.
        jobs: The files whose outputs have references.
        planner: Knows the memory limit, which decoders of whole references must not exceed.
    """

    def __init__(self, folder: str | Path, jobs: Sequence[Job], planner: Planner) -> None:
        self.folder, self.names, self.planner = Path(folder), [job.name for job in jobs], planner

    @cached_property
    def _pairs(self) -> dict[str, str]:
        references = [path.relative_to(self.folder).as_posix() for path in find_images(self.folder)]
        return match_names(self.names, references).pairs

    def held(self, job: Job) -> int:
        """Returns the bytes that the decoder of an output's reference will hold; 0 if it will not be read."""
        try:
            header = self._header(job)
        except (UnreadableImage, UserError):  # scoring says so
            return 0
        return 0 if header is None else header.held

    def _header(self, job: Job) -> Header | None:
        """Returns the header of an output's reference; None if there is none of its size.

        Raises:
            UserError: If its decoder would exceed the memory limit.
        """
        name, source, scale = self._pairs.get(job.name), job.header, self.planner.scale
        if name is None or source is None:
            return None
        header = read_header(self.folder / name)
        if (header.width, header.height) != (source.width * scale, source.height * scale):
            return None
        # Of the output, the decoder holds less than the encoder held.
        self.planner.of_header(replace(source, held=header.held), job.destination.suffix)
        return header

    def __call__(self, job: Job) -> dict[str, float]:
        """Returns PSNR in dB and SSIM of an output, rounded to 8 bits; empty without a reference of its size.

        Raises:
            UserError: If the reference's decoder would exceed the memory limit.
            UnreadableImage: If the reference is damaged.
        """
        if self._header(job) is None:
            return {}
        with (
            open_rows(job.destination, first_page=True) as output,
            open_rows(self.folder / self._pairs[job.name], first_page=True) as reference,
        ):
            return scores(output, reference)


def scores(output: RowReader, reference: RowReader) -> dict[str, float]:
    """Returns PSNR in dB and, from 11×11 pixels on, SSIM of two open images of one size; reads them to their end."""
    width, height, channels = output.header.width, output.header.height, output.header.channels
    rows = max(2 * WINDOW, _STRIP // width)
    error = similarity = 0.0
    strips = [torch.empty(1, channels, 0, width)] * 2  # output and reference
    read = above = 0  # rows read; rows of the strips whose similarity is known
    while read < height:
        count = min(rows, height - read)
        new = as_8_bit(_rows(output, count, channels)), _rows(reference, count, channels)
        error += float((new[0] - new[1]).double().square().sum())
        read += count
        if min(height, width) < WINDOW:
            continue
        strips = [torch.cat(parts, 2) for parts in zip(strips, new, strict=True)]
        known = strips[0].shape[2] - (0 if read == height else _REACH)  # windows of the others reach below the strip
        similarity += _similarity(strips, above, known)
        first = max(0, known - _REACH)
        strips, above = [strip[:, :, first:].clone() for strip in strips], known - first
    count = width * height * channels
    found = {"PSNR": min(-10 * math.log10(error / count), MAX_PSNR) if error else MAX_PSNR}
    return found | ({"SSIM": similarity / count} if min(height, width) >= WINDOW else {})


def _similarity(strips: Sequence[Tensor], above: int, known: int) -> float:
    """Returns the sum of the similarities of two strips between two rows."""
    found = 0.0
    for left in range(0, strips[0].shape[3], _COLUMNS):
        first = max(0, left - _REACH)
        parts = [strip[..., first : left + _COLUMNS + _REACH] for strip in strips]
        inside = similarities(*parts)[:, :, above:known, left - first : left - first + _COLUMNS]
        found += float(inside.double().sum())
    return found


def _rows(reader: RowReader, count: int, channels: int) -> Tensor:
    pixels, _ = reader.read(count)
    return torch.from_numpy(to_float(to_channels(pixels, channels))).permute(2, 0, 1)[None]
