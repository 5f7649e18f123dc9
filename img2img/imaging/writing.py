"""Writes any image file row by row; it appears under its name complete or not at all.

libvips' encoders pull rows, so rows are buffered until the last has arrived: in memory, or above a limit in a hidden
file beside the output, from which they stream through the encoder. Encoding uses libvips' thread pool, which does not
survive a fork: write in the main process or in spawned ones.
"""

from __future__ import annotations

import errno
import os
from pathlib import Path

import numpy as np
import pyvips

from img2img.imaging import metadata
from img2img.imaging.bmp import write_bmp
from img2img.imaging.formats import Format, Header, depth, format_of
from img2img.imaging.netpbm import write_netpbm
from img2img.imaging.parts import new_part, publish
from img2img.imaging.reading import first_line
from img2img.imaging.tiff_exif import append_exif
from img2img.imaging.values import Pixels, from_float, to_float
from img2img.imaging.waiting import WaitingRows

_SCRATCH = 256 * 2**20
_DEFLATE = 3  # twice as fast as the default 6 (8-bit photographs: 15 instead of 8 megapixels per second), 2 % larger
_EFFORT = 0  # of AVIF: 5 megapixels per second; the default 4 reaches 0.07, and 1 reaches 1.5 with 5 % fewer bytes
_CLASSIC_TIFF = 3_000_000_000  # bytes; classic TIFF ends at 4 GiB, and noise may not compress
_REFUSALS = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EIO)


def create_rows(path: Path, header: Header, *, quality: int = 95, scratch: int = _SCRATCH) -> RowWriter:
    """Begin an image file; use the result as a context manager, which closes it, or aborts after an exception.

    PNG, PPM and TIFF are lossless and keep uint16; AVIF keeps 10 or 12 bits of it, JPEG, WebP and BMP scale it to 8.
    Only TIFF holds float32 and several pages. JPEG, BMP and PPM drop alpha. See `img2img.imaging.formats.loss`. WebP
    and AVIF are encoded whole in memory, see `img2img.imaging.held`; the others are streamed.

    Args:
        path: the target, whose suffix decides the format; an existing file is replaced. Missing parents are created.
        header: describes the rows and the metadata to write; its `format` does not matter.
        quality: 1 to 100, for JPEG, WebP and AVIF only.
        scratch: bytes of rows that may be buffered in memory.

    Raises:
        ValueError: the suffix is unknown or the format cannot hold this image.
        OSError: the file cannot be written.
    """
    try:
        kind = format_of(path.suffix)
        _check(kind, header)
    except ValueError as error:
        raise ValueError(f"cannot write {path}: {error}") from error
    path.parent.mkdir(parents=True, exist_ok=True)
    return RowWriter(path, kind, header, quality, scratch)


def _check(kind: Format, header: Header) -> None:
    """Reject at once what the encoder would reject at the end."""
    if header.dtype == np.float32 and not kind.floats:
        raise ValueError("only TIFF holds float32 pixels")
    if header.pages > 1 and not kind.several:
        raise ValueError(f"{header.pages} pages: only TIFF holds more than one")
    if kind.side and max(header.width, header.height) > kind.side:
        size = f"{header.width}x{header.height}"
        raise ValueError(f"image too large: {kind.name} holds {kind.side} pixels per side, not {size}")


class RowWriter:
    """Writes an image file row by row, from the top down."""

    def __init__(self, path: Path, kind: Format, header: Header, quality: int, scratch: int) -> None:
        self._path, self._kind, self._header, self._quality = path, kind, header, quality
        self._alpha = header.alpha and kind.alpha
        self._bands, self._rows, self._done = header.channels + self._alpha, header.height * header.pages, 0
        self._dtype = np.dtype(np.uint8) if kind.bits == 8 else header.dtype
        self._waiting = WaitingRows(path.parent, (self._rows, header.width, self._bands), self._dtype, scratch)

    def write(self, pixels: Pixels, alpha: Pixels | None) -> None:
        """Append rows, page after page: HxWx1 or HxWx3 of the header's dtype, and HxWx1 alpha if the header has alpha.

        Raises:
            ValueError: shape or dtype differs from the header, or there are too many rows.
            OSError: the file cannot be written.
        """
        header = self._header
        given = [pixels] if alpha is None else [pixels, alpha]
        bands = [header.channels, 1] if header.alpha else [header.channels]
        wanted = [(len(pixels), header.width, number) for number in bands]
        if [part.shape for part in given] != wanted or any(part.dtype != header.dtype for part in given):
            found = " and ".join(f"{part.shape} of {part.dtype}" for part in given)
            raise ValueError(f"rows for {self._path} must be {wanted} of {header.dtype}, not {found}")
        if self._done + len(pixels) > self._rows:
            raise ValueError(f"{self._done + len(pixels)} rows are too many for {self._path}, which has {self._rows}")
        rows = np.concatenate(given, axis=2) if self._alpha else pixels
        self._waiting.add(rows if rows.dtype == self._dtype else from_float(to_float(rows), self._dtype))
        self._done += len(pixels)

    def close(self, *, replace: bool = True) -> int:
        """Encode the file, give it its final name and return its size in bytes; a failure leaves nothing behind.

        Raises:
            FileExistsError: something has the name and may not be replaced.
            ValueError: rows are missing, or the encoder refuses the image.
            OSError: the file cannot be written; with `errno.ENOSPC` if the disk is full.
        """
        part = new_part(self._path.parent)
        try:
            if missing := self._rows - self._done:
                raise ValueError(f"cannot write {self._path}: {missing} of {self._rows} rows are missing")
            part.touch(exist_ok=False)
            self._encode(part)
            return publish(part, self._path, replace=replace)
        except pyvips.Error as error:
            raise _translate(error, self._path) from error
        finally:  # also when the user presses Ctrl-C
            part.unlink(missing_ok=True)
            self.abort()

    def abort(self) -> None:
        """Discard the rows; nothing is left behind."""
        self._waiting.remove()

    def _encode(self, part: Path) -> None:
        """Fill an empty file with the encoded image."""
        kept, kind = self._header.metadata, self._kind.name
        if kind == "ppm":
            with open(part, "wb") as file:
                write_netpbm(file, self._header.width, self._rows, self._waiting.bands())
        elif kind == "bmp":
            with open(part, "wb") as file:
                write_bmp(file, self._header.width, self._rows, self._waiting.bands(), metadata.resolution(kept))
        else:
            image = metadata.attach(self._waiting.as_vips(), kept)
            _encode_vips(kind, image, part, self._quality, self._header)
        exif = kept.get("exif-data")
        if kind == "tiff" and isinstance(exif, bytes):
            append_exif(part, exif)

    def __enter__(self) -> RowWriter:
        return self

    def __exit__(self, kind: type[BaseException] | None, *details: object) -> None:
        if kind is None:
            self.close()
        else:
            self.abort()


def _encode_vips(kind: str, image: pyvips.Image, part: Path, quality: int, header: Header) -> None:
    """Encode an image with libvips into a file, whose name is not parsed for options."""
    target = os.fsencode(part)
    if kind == "png":  # libvips' default is no filter, which makes photographs a third larger
        image.pngsave(target, compression=_DEFLATE, filter=pyvips.ForeignPngFilter.PAETH)
    elif kind == "tiff":
        predictor = "float" if image.format == "float" else "horizontal"
        big = image.width * image.height * image.bands * header.dtype.itemsize > _CLASSIC_TIFF
        deflate = {"compression": "deflate", "level": _DEFLATE, "predictor": predictor}
        image.tiffsave(target, bigtiff=big, page_height=header.height, **deflate)
    elif kind == "webp":
        image.webpsave(target, Q=quality, smart_subsample=True)
    elif kind == "avif":
        bits = 8 if header.dtype == np.uint8 else min(depth(header), 12)
        image.heifsave(target, compression="av1", Q=quality, bitdepth=bits, subsample_mode="off", effort=_EFFORT)
    else:
        image.jpegsave(target, Q=quality, subsample_mode="off")


def _translate(error: pyvips.Error, path: Path) -> Exception:
    """Return an OSError if the disk refused, which libvips only says in words, or a ValueError if the encoder did."""
    for code in _REFUSALS:
        if os.strerror(code) in str(error.detail):
            return OSError(code, os.strerror(code), str(path))
    return ValueError(f"cannot write {path}: {first_line(error)}")
