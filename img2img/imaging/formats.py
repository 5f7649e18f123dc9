"""Table of image formats: names, first bytes, and what each format can hold.

Nothing heavy is imported here: commands need suffixes before they know whether any picture will be opened.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np

_EVERYTHING = frozenset({"exif-data", "icc-profile-data", "xmp-data", "iptc-data", "xres"})
_WORDS = {
    "exif-data": "EXIF",
    "icc-profile-data": "the colour profile",
    "xmp-data": "XMP",
    "iptc-data": "IPTC",
    "xres": "the resolution",
}


@dataclass(frozen=True)
class Format:
    """One file format.

    Attributes:
        name: as in `Header.format` and `--format`.
        label: as people write it.
        suffixes: of its files, lower case.
        magic: matches the first 32 bytes of its files.
        bits: the most bits of a written integer sample; 0 if the format can only be read.
        floats: holds float32.
        gray: holds one channel; otherwise gray is stored as three equal channels.
        alpha: holds opacity.
        several: holds several pages.
        side: the longest side in pixels, None if another limit applies first.
        keeps: the keys of an image's metadata that can be written.
        offered: whether users can choose it for outputs, which get its first suffix.
    """

    name: str
    label: str
    suffixes: tuple[str, ...]
    magic: re.Pattern[bytes]
    bits: int
    keeps: frozenset[str]
    floats: bool = False
    gray: bool = True
    alpha: bool = False
    several: bool = False
    side: int | None = None
    offered: bool = True


# The first bytes choose the decoder: a PNG named .jpg still opens, and no rarer loader (SVG, PDF) is reached.
FORMATS = (
    Format("jpeg", "JPEG", (".jpg", ".jpeg"), re.compile(rb"\xff\xd8\xff"), 8, _EVERYTHING, side=65_500),
    Format("png", "PNG", (".png",), re.compile(rb"\x89PNG\r\n\x1a\n"), 16, _EVERYTHING - {"iptc-data"}, alpha=True),
    Format(
        "webp",
        "WebP",
        (".webp",),
        re.compile(rb"RIFF....WEBP", re.DOTALL),
        8,
        _EVERYTHING - {"iptc-data", "xres"},
        gray=False,
        alpha=True,
        side=16_383,
    ),
    Format(
        "tiff",
        "TIFF",
        (".tif", ".tiff"),
        re.compile(rb"II[*+]\0|MM\0[*+]"),
        16,
        _EVERYTHING,
        floats=True,
        alpha=True,
        several=True,
    ),
    # Brands after the first are four bytes each; "mif1" alone says nothing about the codec.
    Format(
        "avif",
        "AVIF",
        (".avif",),
        re.compile(rb"....ftyp(?:avi[fs]|(?:mif1|msf1|miaf).{4}(?:.{4})*?avi[fs])", re.DOTALL),
        12,
        _EVERYTHING - {"iptc-data", "xres"},
        gray=False,
        alpha=True,
        side=16_384,
    ),
    Format(
        "heic",
        "HEIC",
        (".heic", ".heif"),
        re.compile(rb"....ftyp(?:hei[cxms]|hev[cxms]|mif1|msf1)", re.DOTALL),
        0,
        frozenset(),
        offered=False,
    ),
    Format("bmp", "BMP", (".bmp",), re.compile(rb"BM"), 8, frozenset({"xres"}), offered=False),
    Format("ppm", "PPM", (".ppm", ".pgm", ".pnm"), re.compile(rb"P[1-6][\s#]"), 16, frozenset(), offered=False),
)
SUFFIXES = frozenset(suffix for kind in FORMATS for suffix in kind.suffixes)
"""Suffixes of files that can be read."""
WRITABLE = frozenset(suffix for kind in FORMATS if kind.bits for suffix in kind.suffixes)
"""Suffixes of files that can be written."""
READABLE_NAMES = ", ".join(kind.label for kind in FORMATS)
"""The formats that can be read, for messages."""
OFFERED = {kind.name: kind.suffixes[0] for kind in FORMATS if kind.offered}
"""Suffixes of the formats that users can choose for outputs, by name."""


@dataclass(frozen=True, eq=False)
class Header:
    """Everything about an image file, existing or to be written, except its pixels.

    Attributes:
        width: of one page, upright (EXIF orientation applied), in pixels.
        height: likewise.
        channels: 1 (gray) or 3 (RGB).
        alpha: whether there is also an opacity channel.
        dtype: uint8, uint16 or float32: of the pixels, and of an output.
        pages: at least 1, all of one size.
        format: the name of one of `FORMATS`.
        metadata: EXIF, ICC, XMP, IPTC and resolution (pixels per mm), as `Image.metadata`. It contains
            `bits-per-sample` if the depth of the file lies between 8 and 16 (AVIF and HEIC of 10 or 12 bits).
    """

    width: int
    height: int
    channels: int
    alpha: bool
    dtype: np.dtype[np.generic]
    pages: int
    format: str
    metadata: dict[str, object]


def format_of(suffix: str) -> Format:
    """Return the format in which a file with this suffix (any case, with its dot) is written.

    Raises:
        ValueError: no format has the suffix, or its format can only be read.
    """
    for kind in FORMATS:
        if suffix.lower() in kind.suffixes:
            if not kind.bits:
                raise ValueError(
                    f"{kind.name.upper()} can be read but not written: use .avif instead of {suffix.lower()}"
                )
            return kind
    raise ValueError(f"unknown suffix {suffix.lower()!r}, use one of {', '.join(sorted(WRITABLE))}")


def sniff(head: bytes) -> Format:
    """Return the format of a file, given its first 32 bytes.

    Raises:
        ValueError: the file is empty or its format is unknown.
    """
    for kind in FORMATS:
        if kind.magic.match(head):
            return kind
    raise ValueError(f"not a {' or '.join(READABLE_NAMES.rsplit(', ', 1))} file" if head else "the file is empty")


def loss(header: Header, suffix: str) -> list[str]:
    """Describe what an image loses in a file with this suffix, apart from lossy compression.

    Args:
        header: the image.
        suffix: of the file to be written, one of `WRITABLE`.

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
