"""Reads and writes EXIF in TIFF files, because libvips does not.

A TIFF *is* a directory of tags, like EXIF: the camera's tags are in the first page's directory, and two of them point
to further directories. Writing appends them to the finished file, with a new first directory that also holds the old
entries. Source: TIFF 6.0, section 2; EXIF 2.32, section 4.6.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping, MutableMapping
from pathlib import Path
from typing import Any, BinaryIO

from PIL import Image as PillowImage
from PIL.TiffImagePlugin import ImageFileDirectory_v2

_POINTERS = (0x8769, 0x8825)  # to the directories of EXIF and GPS
# Description, make, model, software, date, artist, host, copyright: the rest describes how the pixels are stored.
_WORDS = (0x010E, 0x010F, 0x0110, 0x0131, 0x0132, 0x013B, 0x013C, 0x8298)
_LONGEST = 30_000  # bytes of EXIF that every format can hold; microscopes store whole documents in the description
# What Pillow raises for tags that make no sense.
_BAD = (ValueError, TypeError, KeyError, AttributeError, SyntaxError, OSError, OverflowError, MemoryError, struct.error)


class _Directory:
    """The first directory of a TIFF: entries by tag as raw bytes, and where the next directory is."""

    def __init__(self, file: BinaryIO) -> None:
        file.seek(0)
        head = file.read(16)
        self.order = "<" if head[:2] == b"II" else ">"
        self.big = self.unpack("H", head[2:4]) == 43
        self.head = head[: 16 if self.big else 8]
        self.offset, self.count = ("Q", "Q") if self.big else ("L", "H")  # types of a pointer, of the entries' number
        self.counted, self.entry = (8, 20) if self.big else (2, 12)  # bytes of the entries' number and of an entry
        self.place = 8 if self.big else 4  # of the pointer to the first directory; also the bytes of a pointer
        self.start = self.unpack(self.offset, head[self.place :])
        file.seek(self.start)
        self.entries = {}
        for _ in range(self.unpack(self.count, file.read(self.counted))):  # too large a number ends in struct.error
            entry = file.read(self.entry)
            self.entries[self.unpack("H", entry)] = entry
        self.next = file.read(self.place)

    def unpack(self, kind: str, data: bytes) -> int:
        """Read one number from the beginning of `data`."""
        return int(struct.unpack_from(self.order + kind, data)[0])


def read_exif(file: BinaryIO) -> bytes | None:
    """Return a TIFF's tags of camera, place and author as the EXIF of other formats; None if there are no such tags.

    A damaged directory counts as empty: the picture may still be readable, and its decoder reports it if not.
    """
    try:
        directory = _Directory(file)
        if not directory.entries.keys() & {*_POINTERS, *_WORDS}:
            return None
        words = _load(directory.head, file, directory.start)
        inner = {tag: dict(_load(directory.head, file, words[tag], tag)) for tag in _POINTERS if tag in words}
        target = PillowImage.Exif()
        _copy(words, inner, target)
        exif = target.tobytes()
    except _BAD:
        return None
    return exif if len(exif) < _LONGEST else None


def end_of_first_page(file: BinaryIO) -> int:
    """Return where the last strip or tile of a TIFF's first page ends; 0 if its directory does not say."""
    try:
        directory = _Directory(file)
        tags = _load(directory.head, file, directory.start)
        places, lengths = (273, 279) if 273 in tags else (324, 325)
        return max(map(sum, zip(tags[places], tags[lengths], strict=True)))
    except _BAD:
        return 0


def append_exif(path: Path, exif: bytes) -> None:
    """Add EXIF, as in a JPEG (beginning with `Exif` and two zero bytes), to a complete TIFF, which is changed in place.

    Raises:
        OSError: the file cannot be written.
    """
    with open(path, "r+b") as file:
        old = _Directory(file)
        added = ImageFileDirectory_v2(old.head)
        start = file.seek(0, 2) + 15 & ~15
        try:
            source = PillowImage.Exif()
            source.load(exif)
            _copy(source, {tag: source.get_ifd(tag) for tag in _POINTERS}, added)
            block = added.tobytes(start)
        except _BAD:  # unreadable EXIF is no reason to lose a picture
            return
        if not len(added):
            return
        file.seek(start)
        file.write(block)
        places = range(old.counted, old.counted + len(added) * old.entry, old.entry)
        entries = [_widen(old, block[place : place + old.entry]) for place in places]
        merged = {old.unpack("H", entry): entry for entry in entries} | old.entries
        place = file.tell() + 15 & ~15
        file.seek(place)
        file.write(struct.pack(old.order + old.count, len(merged)))
        file.write(b"".join(merged[tag] for tag in sorted(merged)) + old.next)
        file.seek(old.place)
        file.write(struct.pack(old.order + old.offset, place))


def _load(head: bytes, file: BinaryIO, start: int, group: int | None = None) -> ImageFileDirectory_v2:
    """Read one directory with Pillow, whose `Exif` cannot read a BigTIFF."""
    directory = ImageFileDirectory_v2(head, group=group)
    file.seek(start)
    directory.load(file)
    return directory


def _copy(words: Mapping[int, Any], inner: Mapping[int, Mapping[int, Any]], target: MutableMapping[int, Any]) -> None:
    """Copy the tags of camera, place and author, and of the inner directories, into `target`."""
    target.update({tag: words[tag] for tag in _WORDS if tag in words})
    for tag, values in inner.items():
        # 0xA005 is left out: it points into the old file.
        kept = {key: value for key, value in values.items() if key != 0xA005 and not isinstance(value, dict)}
        if kept:
            target[tag] = kept


def _widen(directory: _Directory, entry: bytes) -> bytes:
    """Declare a BigTIFF's pointer as 64 bits instead of Pillow's 32, so that it reaches beyond 4 GiB."""
    if not directory.big or directory.unpack("H", entry) not in _POINTERS:
        return entry
    long8 = 16
    return entry[:2] + struct.pack(directory.order + "H", long8) + entry[4:]
