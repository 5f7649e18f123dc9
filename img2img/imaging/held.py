"""Estimates how much of a whole image decoders and encoders hold in memory; the others stream it.

Measured as the peak of the process while images of 16 to 144 megapixels went through, noise included.
"""

from __future__ import annotations

import struct
from typing import BinaryIO

from img2img.imaging.formats import Header, format_of

# Bytes per sample of the whole image; gray counts as colour, of which these libraries make it.
AVIF_SAMPLE, HEIC_SAMPLE, WEBP_SAMPLE = 6.2, 4.0, 2.7
_ENCODERS = {"webp": 11.2, "avif": 15.0}
_DEEP = 1.4  # samples of more than 8 bits take this times as much
_FRAMES = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}  # JPEG markers that give the size
_PROGRESSIVE = (0xC2, 0xC6, 0xCA, 0xCE)


def held_by_decoder(sample: float, width: int, height: int, bands: int, deep: bool) -> int:
    """Return the bytes that a decoder holds which takes this many per sample."""
    return int(sample * width * height * _samples(bands) * (_DEEP if deep else 1))


def held_by_encoder(header: Header, suffix: str) -> int:
    """Return the bytes that the encoder of this suffix holds of an image besides its waiting rows; 0 if it streams.

    Raises:
        ValueError: no format has the suffix, or its format can only be read.
    """
    kind = format_of(suffix)
    deep = kind.bits > 8 and header.dtype.itemsize > 1
    bands = header.channels + (header.alpha and kind.alpha)
    return held_by_decoder(_ENCODERS.get(kind.name, 0), header.width, header.height * header.pages, bands, deep)


def held_of_jpeg(file: BinaryIO) -> int:
    """Return the bytes of a JPEG's coefficients, which are held if the image comes in several scans; otherwise 0."""
    file.seek(2)
    frame, coefficients, components = 0, 0, 0
    while len(head := file.read(4)) == 4 and head[0] == 0xFF:
        if head[1] == 0xFF:  # a byte of filling
            file.seek(-3, 1)
            continue
        body = file.read(max(0, int.from_bytes(head[2:]) - 2))
        if head[1] in _FRAMES and len(body) > 5:
            frame, components = head[1], body[5]
            coefficients = _coefficients(body)
        elif head[1] == 0xDA and body:
            several = frame in _PROGRESSIVE or body[0] < components
            return coefficients if several else 0
    return 0


def _coefficients(frame: bytes) -> int:
    """Return the bytes of all coefficients, given a JPEG's frame header."""
    height, width = struct.unpack_from(">HH", frame, 1)
    factors = [(byte >> 4 or 1, byte & 15 or 1) for byte in frame[7::3]]
    most = [max((pair[axis] for pair in factors), default=1) for axis in (0, 1)]
    blocks = 0
    for across, down in factors:
        blocks += -(-width // (8 * most[0])) * across * (-(-height // (8 * most[1])) * down)
    return blocks * 64 * 2


def _samples(bands: int) -> int:
    return max(3, bands + (bands == 2) * 2)
