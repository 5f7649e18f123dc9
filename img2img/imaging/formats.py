"""Table of image formats: names, first bytes, and what each format can hold.

Nothing heavy is imported here: commands need suffixes before they know whether any picture will be opened.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np

_WORDS = {
    "exif-data": "EXIF",
    "icc-profile-data": "the colour profile",
    "xmp-data": "XMP",
    "iptc-data": "IPTC",
    "xres": "the resolution",
}
_ALL = frozenset(_WORDS)
_NOTHING: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Format:
    """One file format."""

    name: str  # as in `Header.format` and `--format`
    label: str  # as people write it
    suffixes: tuple[str, ...]  # lower case
    magic: bytes  # regular expression that matches the first 32 bytes of its files
    bits: int  # the most bits of a written integer sample; 0 if the format can only be read
    keeps: frozenset[str]  # the keys of an image's metadata that can be written
    floats: bool = False  # holds float32
    alpha: bool = False  # holds opacity
    several: bool = False  # holds several pages
    side: int | None = None  # the longest side in pixels, None if another limit applies first
    offered: bool = True  # users can choose it for outputs, which get its first suffix


_WEBP = rb"RIFF....WEBP"
# Brands after the first are four bytes each; "mif1" alone says nothing about the codec.
_AVIF = rb"....ftyp(?:avi[fs]|(?:mif1|msf1|miaf).{4}(?:.{4})*?avi[fs])"
_HEIC = rb"....ftyp(?:hei[cxms]|hev[cxms]|mif1|msf1)"
_FEW = _ALL - {"iptc-data", "xres"}
# The first bytes choose the decoder: a PNG named .jpg still opens, and no rarer loader (SVG, PDF) is reached.
FORMATS = (
    Format("jpeg", "JPEG", (".jpg", ".jpeg"), rb"\xff\xd8\xff", 8, _ALL, side=65_500),
    Format("png", "PNG", (".png",), rb"\x89PNG\r\n\x1a\n", 16, _ALL - {"iptc-data"}, alpha=True),
    Format("webp", "WebP", (".webp",), _WEBP, 8, _FEW, alpha=True, side=16_383),
    Format("tiff", "TIFF", (".tif", ".tiff"), rb"II[*+]\0|MM\0[*+]", 16, _ALL, floats=True, alpha=True, several=True),
    Format("avif", "AVIF", (".avif",), _AVIF, 12, _FEW, alpha=True, side=16_384),
    Format("heic", "HEIC", (".heic", ".heif"), _HEIC, 0, _NOTHING, offered=False),
    Format("bmp", "BMP", (".bmp",), rb"BM", 8, frozenset({"xres"}), offered=False),
    Format("ppm", "PPM", (".ppm", ".pgm", ".pnm"), rb"P[1-6][\s#]", 16, _NOTHING, offered=False),
)
SUFFIXES = frozenset(suffix for kind in FORMATS for suffix in kind.suffixes)  # of files that can be read
WRITABLE = frozenset(
    suffix for kind in FORMATS if kind.bits for suffix in kind.suffixes
)  # of files that can be written
READABLE_NAMES = ", ".join(kind.label for kind in FORMATS)  # for messages
OFFERED = {kind.name: kind.suffixes[0] for kind in FORMATS if kind.offered}  # formats that users can choose for outputs


@dataclass(frozen=True, eq=False)
class Header:
    """Everything about an image file, existing or to be written, except its pixels.

    `metadata` holds EXIF, ICC, XMP, IPTC and resolution (pixels per mm), as `Image.metadata`; and `bits-per-sample` if
    the depth of the file is between 8 and 16 (AVIF and HEIC of 10 or 12 bits).
    """

    width: int  # of one page, upright (EXIF orientation applied), in pixels
    height: int
    channels: int  # 1 (gray) or 3 (RGB)
    alpha: bool  # whether there is also an opacity channel
    dtype: np.dtype[np.generic]  # uint8, uint16 or float32
    pages: int  # at least 1, all of one size
    format: str  # the name of one of `FORMATS`
    metadata: dict[str, object]
    held: int = 0  # bytes that the decoder holds of the whole image; 0 if it streams


def format_of(suffix: str) -> Format:
    """Return the format in which a file with this suffix (any case, with its dot) is written.

    Raises:
        ValueError: no format has the suffix, or its format can only be read.
    """
    for kind in FORMATS:
        if suffix.lower() in kind.suffixes:
            if not kind.bits:
                raise ValueError(f"{kind.label} can be read but not written: use .avif instead of {suffix.lower()}")
            return kind
    raise ValueError(f"unknown suffix {suffix.lower()!r}, use one of {', '.join(sorted(WRITABLE))}")


def sniff(head: bytes) -> Format:
    """Return the format of a file, given its first 32 bytes.

    Raises:
        ValueError: the file is empty or its format is unknown.
    """
    for kind in FORMATS:
        if re.match(kind.magic, head, re.DOTALL):
            return kind
    raise ValueError(f"not a {' or '.join(READABLE_NAMES.rsplit(', ', 1))} file" if head else "the file is empty")


def loss(header: Header, suffix: str) -> list[str]:
    """Describe what an image loses in a file with this suffix, apart from lossy compression.

    Returns:
        Phrases such as "16 bits become 8"; empty if everything is kept. With "floats are refused" or "pages after
        the first", `create_rows` raises unless the header is changed first.

    Raises:
        ValueError: no format has the suffix, or its format can only be read.
    """
    kind = format_of(suffix)
    lost = []
    if header.dtype.kind == "f" and not kind.floats:
        lost.append("floats are refused")
    deep = depth(header)
    if deep > kind.bits:
        lost.append(f"{deep} bits become {kind.bits}")
    if header.alpha and not kind.alpha:
        lost.append("alpha is dropped")
    if header.pages > 1 and not kind.several:
        lost.append("pages after the first")
    lost += [f"{word} is dropped" for key, word in _WORDS.items() if key in header.metadata and key not in kind.keeps]
    return lost


def depth(header: Header) -> int:
    """Return the bits of an integer sample in its file: 8 to 16; 0 for floats."""
    if header.dtype.kind == "f":
        return 0
    bits = header.metadata.get("bits-per-sample")
    return bits if isinstance(bits, int) and header.dtype.itemsize == 2 else header.dtype.itemsize * 8
