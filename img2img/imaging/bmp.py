"""Reads and writes BMP row by row; compressed ones, which are rare, are decoded whole."""

from __future__ import annotations

import os
import struct
from collections.abc import Iterable
from functools import cached_property
from typing import BinaryIO

import numpy as np
from PIL import BmpImagePlugin
from PIL import Image as PillowImage

from img2img.imaging.values import Pixels


class BmpRows:
    """Reads a BMP from the top down, as uint8 with 1, 3 or 4 channels.

    Pillow's plug-in is used directly, because `PIL.Image.open` has a lower pixel limit of its own.
    """

    def __init__(self, file: BinaryIO) -> None:
        self._picture, self._file, self._done = BmpImagePlugin.BmpImageFile(file), file, 0
        self.width, self.height = self._picture.size
        self._mode = {"1": "L", "L": "L", "RGBA": "RGBA"}.get(self._picture.mode, "RGB")
        self.channels = len(self._mode)
        self._tile, palette = self._picture.tile[0], self._picture.palette
        self._streams = self._tile.codec_name == "raw"
        self._layout: tuple[str, int, int] = self._tile.args if self._streams else ("", 0, 0)  # type: ignore[assignment]
        self._palette = None if palette is None else (bytes(palette.palette), palette.rawmode or "RGB")

    @property
    def held(self) -> int:
        """Bytes that decoding holds of the whole image: Pillow makes several copies of a compressed one."""
        return 0 if self._streams else 3 * self.width * self.height

    @property
    def resolution(self) -> dict[str, object]:
        """The resolution as metadata, in pixels per mm; empty if there is none."""
        xdpi, ydpi = self._picture.info.get("dpi", (0, 0))
        return {"xres": xdpi / 25.4, "yres": ydpi / 25.4} if xdpi and ydpi else {}

    def read(self, rows: int) -> Pixels:
        """Return the next rows, rows x width x channels.

        Raises:
            ValueError: the file is truncated.
        """
        top, self._done = self._done, self._done + rows
        strip = self._stored(top, rows) if self._streams else self._whole.crop((0, top, self.width, self._done))
        pixels = np.asarray(strip.convert(self._mode))
        return pixels.reshape(rows, self.width, self.channels)

    def _stored(self, top: int, rows: int) -> PillowImage.Image:
        """Decode rows that are stored without compression, in most files the lowest first."""
        raw, stride, direction = self._layout
        first = top if direction > 0 else self.height - top - rows
        self._file.seek(self._tile.offset + first * stride)
        data = self._file.read(rows * stride)
        if len(data) < rows * stride:
            raise ValueError("the file is truncated")
        strip = PillowImage.frombytes(self._picture.mode, (self.width, rows), data, "raw", raw, stride, direction)
        if self._palette is not None:
            strip.putpalette(*self._palette)
        return strip

    @cached_property
    def _whole(self) -> PillowImage.Image:
        self._picture.load()
        return self._picture


def write_bmp(
    file: BinaryIO, width: int, height: int, bands: Iterable[Pixels], resolution: tuple[float, float] = (0, 0)
) -> None:
    """Write bands of HxWx1 or HxWx3 rows of uint8, from the top down; `resolution` is in pixels per mm.

    Raises:
        ValueError: the file would be larger than the format allows.
    """
    top = start = stride = 0
    for band in bands:
        channels = band.shape[2]
        if top == 0:
            colours = 256 if channels == 1 else 0
            start, stride = 54 + 4 * colours, -(-width * channels // 4) * 4
            if start + height * stride >= 2**32:
                raise ValueError("image too large: a BMP holds 4 GB")
            per_metre = (int(value * 1000 + 0.5) for value in resolution)
            file.write(b"BM" + struct.pack("<LLL", start + height * stride, 0, start))
            file.write(
                struct.pack(
                    "<LllHHLLllLL", 40, width, height, 1, 8 * channels, 0, height * stride, *per_metre, colours, colours
                )
            )
            file.write(b"".join(bytes([level, level, level, 0]) for level in range(colours)))
        padded = np.zeros((len(band), stride), np.uint8)
        padded[:, : width * channels] = band[::-1, :, ::-1].reshape(len(band), -1)
        top += len(band)
        file.seek(start + (height - top) * stride)  # the lowest row comes first
        file.write(padded.data)
    file.seek(0, os.SEEK_END)
