"""Recognises image files that are truncated, as by a broken copy, without decoding them."""

from __future__ import annotations

import os
from pathlib import Path
from typing import BinaryIO

from img2img.imaging.netpbm import NetpbmRows
from img2img.imaging.tiff_exif import end_of_first_page


def is_truncated(path: Path, format: str) -> bool:
    """Return whether a file with a readable header ends before its pixels do, from markers and sizes alone.

    Other damage shows only when the file is decoded. Truncated WebP files cannot even be opened.

    Args:
        path: the file.
        format: its `Header.format`.

    Raises:
        OSError: the file cannot be read.
    """
    with open(path, "rb") as file:
        size = os.fstat(file.fileno()).st_size
        if format == "jpeg":
            return _lacks_end_of_jpeg(file)
        if format == "tiff":
            return end_of_first_page(file) > size
        if format == "ppm":
            return NetpbmRows(file).end > size
        if format == "bmp":
            return _end_of_bmp(file) > size
        return format in ("png", "avif", "heic") and _end_of_parts(file, size, format == "png") > size


def _lacks_end_of_jpeg(file: BinaryIO) -> bool:
    file.seek(-2, os.SEEK_END)
    if file.read() == b"\xff\xd9":
        return False
    # Phones append films and notes. The thumbnail in the EXIF has an end marker too, so the search begins at the scan.
    file.seek(2)
    while len(head := file.read(4)) == 4 and head[0] == 0xFF:
        if head[1] == 0xDA:
            return b"\xff\xd9" not in file.read()
        file.seek(int.from_bytes(head[2:]) - 2, os.SEEK_CUR)
    return False


def _end_of_bmp(file: BinaryIO) -> int:
    """Return where an uncompressed BMP must end; 0 for others."""
    head = file.read(34)
    start, width, height = (int.from_bytes(head[at : at + 4], "little", signed=True) for at in (10, 18, 22))
    bits, compression = int.from_bytes(head[28:30], "little"), int.from_bytes(head[30:34], "little")
    is_plain = int.from_bytes(head[14:18], "little") >= 40 and compression in (0, 3)  # none, or with masks
    return start + (width * bits + 31) // 32 * 4 * abs(height) if is_plain else 0


def _end_of_parts(file: BinaryIO, size: int, png: bool) -> int:
    """Return where the last pixels must end: in the chunks of a PNG, or in the boxes of an AVIF or HEIC file."""
    at, end = 8 if png else 0, 0
    while at + 8 <= size:
        file.seek(at)
        head = file.read(16)
        length, kind = int.from_bytes(head[:4]), head[4:8]
        if png:
            length += 12
        elif length == 1:
            length = int.from_bytes(head[8:16])
        if length < 8:  # 0 means up to the end of the file
            break
        at += length
        if kind in (b"IDAT", b"mdat"):
            end = at
        elif kind == b"IEND":
            break
    return end
