"""Opens image files and decodes their rows as stored: one function per decoder, all with the same result type.

JPEG, PNG, TIFF and AVIF go through libvips, which keeps 16 bits and metadata. BMP goes through Pillow, because the
libvips in the wheels cannot read BMP, and the pixels of WebP through OpenCV (see `_open_webp`). HEIC needs
`pillow-heif`, because that libvips has no HEVC decoder. libvips gets open files, never names, so it neither answers
from its cache of opened files nor parses `[...]` in a name as options.

Nothing here starts libvips threads, so it is safe in forked worker processes.
"""

from __future__ import annotations

import os
import re
import stat
import struct
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import BinaryIO

import numpy as np
import pyvips

from img2img.errors import UserError
from img2img.imaging import metadata, tiff_exif
from img2img.imaging.bmp import BmpRows
from img2img.imaging.decoded_rows import DTYPES, rows_of, rows_of_whole
from img2img.imaging.formats import Format, sniff
from img2img.imaging.held import AVIF_SAMPLE, HEIC_SAMPLE, WEBP_SAMPLE, held_by_decoder, held_of_jpeg
from img2img.imaging.netpbm import NetpbmRows
from img2img.imaging.values import Pixels

MAX_PIXELS = 2_000_000_000  # a header with more is a decompression bomb or damage, not a picture
_INTERLACED = 28  # where a PNG says whether it is
_SEQUENCES = (b"avis", b"hevc", b"hevx", b"msf1")  # brands of image sequences, which are animations


@dataclass(frozen=True)
class Stored:
    """An opened image file before any pixel is decoded."""

    width: int  # of one page as stored, before it is turned upright
    height: int
    bands: int  # 1 to 4; the second or fourth is alpha
    dtype: np.dtype[np.generic]  # uint8, uint16 or float32
    metadata: dict[str, object]  # as in `Image`, for the upright picture
    take: Callable[[int], Pixels]  # returns the given number of next rows, HxWxbands, page after page; all must exist
    close: Callable[[], None]
    pages: int = 1  # all of one size
    orientation: int = 1  # of EXIF, 1 to 8
    held: int = 0  # bytes that the decoder holds of the whole image


def open_stored(path: Path, first_page: bool) -> tuple[Format, Stored]:
    """Open an image file; its first bytes choose the decoder.

    Args:
        path: the file.
        first_page: ignore all other pages of a TIFF, whatever their sizes.

    Raises:
        OSError, ValueError, SyntaxError, EOFError, struct.error, pyvips.Error: the file cannot be read or is not
            supported; which error depends on the decoder.
    """
    if not stat.S_ISREG(os.stat(path).st_mode) and not path.is_dir():  # opening a pipe would wait for a writer
        raise ValueError("it is not a file but a pipe, socket or device")
    file = open(path, "rb")  # noqa: SIM115 - the rows are read from it later
    try:
        head = file.read(32)
        kind = sniff(head)
        if head[4:8] == b"ftyp" and head[8:12] in _SEQUENCES:
            raise ValueError("animated: not supported")
        file.seek(0)
        stored = _OPENERS[kind.name](file, path, first_page)
        if stored.width * stored.height > MAX_PIXELS:
            raise ValueError(f"{stored.width}x{stored.height} pixels exceed the limit of {MAX_PIXELS}")
    except BaseException:
        file.close()
        raise
    return kind, stored


def _open_vips(file: BinaryIO, loader: str, **options: object) -> pyvips.Image:
    """Read a header with libvips; return an image whose rows must be read from the top down."""
    file.seek(0)
    source, load = pyvips.Source.new_from_descriptor(file.fileno()), getattr(pyvips.Image, f"{loader}load_source")
    # fail_on="error", because "truncated" accepts truncated TIFFs, and the default accepts everything
    image = load(source, access="sequential", fail_on="error", **options)
    if image.interpretation == "cmyk":
        depth = 16 if image.format == "ushort" else 8
        image = image.icc_transform("srgb", embedded=True, input_profile="cmyk", depth=depth)
    elif image.interpretation in ("lab", "labs"):
        image = image.colourspace("srgb")
    if image.format not in DTYPES or image.bands > 4:
        raise ValueError(f"{image.bands} channels of type {image.format} are not supported")
    return image


def _stored(
    image: pyvips.Image, file: BinaryIO, take: Callable[[int], Pixels], extra: dict[str, object], held: float = 0
) -> Stored:
    """Describe a libvips image whose rows come from `take`; the decoder holds `held` bytes of each sample of a page."""
    orientation = image.get("orientation") if image.get_typeof("orientation") else 1
    orientation = orientation if 1 <= orientation <= 8 else 1
    height = image.get("page-height") if image.get_typeof("page-height") else image.height
    kept = metadata.collect(image, swapped=orientation >= 5) | extra
    dtype, pages = np.dtype(DTYPES[image.format]), image.height // height
    of_page = held_by_decoder(held, image.width, height, image.bands, dtype.itemsize > 1)
    return Stored(image.width, height, image.bands, dtype, kept, take, file.close, pages, orientation, of_page)


def _open_jpeg(file: BinaryIO, path: Path, first_page: bool) -> Stored:
    coefficients = held_of_jpeg(file)
    image = _open_vips(file, "jpeg")
    return replace(_stored(image, file, rows_of(image), {}), held=coefficients)


def _open_png(file: BinaryIO, path: Path, first_page: bool) -> Stored:
    if (frames := _count_png_frames(file)) > 1:
        raise ValueError(f"animated, {frames} frames: not supported")
    image = _open_vips(file, "png")
    file.seek(_INTERLACED)
    whole = image.width * image.height * image.bands * _size(image) if file.read(1) == b"\1" else 0
    return replace(_stored(image, file, rows_of(image), {}), held=whole)


def _size(image: pyvips.Image) -> int:
    return np.dtype(DTYPES[image.format]).itemsize


def _count_png_frames(file: BinaryIO) -> int:
    """Return the number of frames, from the chunk that makes a PNG an animation, because libvips ignores it."""
    file.seek(8)
    while len(head := file.read(8)) == 8:
        length, name = struct.unpack(">I4s", head)
        if name == b"acTL":
            return int.from_bytes(file.read(4))
        if name == b"IDAT":
            break
        file.seek(length + 4, 1)
    return 1


def _open_tiff(file: BinaryIO, path: Path, first_page: bool) -> Stored:
    exif = tiff_exif.read_exif(file)
    try:
        image = _open_vips(file, "tiff", n=1 if first_page else -1)
    except pyvips.Error as error:
        other = re.search(r"page (\d+) differs from page 0", str(error.detail))
        if other is None:
            raise
        raise ValueError(_describe_difference(file, int(other[1]))) from error
    return _stored(image, file, rows_of(image), {"exif-data": exif} if exif else {})


def _describe_difference(file: BinaryIO, other: int) -> str:
    """Describe how a page of a TIFF differs from the first."""
    pages = []
    for page in (0, other):
        file.seek(0)
        pages.append(pyvips.Image.tiffload_source(pyvips.Source.new_from_descriptor(file.fileno()), page=page))
    sizes = [f"{page.width}x{page.height}" for page in pages]
    if sizes[0] != sizes[1]:
        return f"pages of different sizes: page 1 has {sizes[0]} pixels, page {other + 1} has {sizes[1]}"
    kinds = [f"{page.bands} channels of type {page.format}" for page in pages]
    return f"pages of different kinds: page 1 has {kinds[0]}, page {other + 1} has {kinds[1]}"


def _open_webp(file: BinaryIO, path: Path, first_page: bool) -> Stored:
    """Read the header with libvips and decode with OpenCV: libvips' WebP starts its thread pool even for a region."""
    image = _open_vips(file, "webp")
    if image.get_typeof("n-pages") and image.get("n-pages") > 1:
        raise ValueError(f"animated, {image.get('n-pages')} frames: not supported")

    def decode() -> Pixels:
        import cv2

        pixels = cv2.imdecode(np.fromfile(path, np.uint8), cv2.IMREAD_UNCHANGED)
        if pixels is None or pixels.shape != (image.height, image.width, image.bands):
            raise ValueError("damaged or truncated")
        return pixels

    take, order = rows_of_whole(decode), [2, 1, 0, 3][: image.bands]
    return _stored(image, file, lambda rows: take(rows)[..., order], {}, WEBP_SAMPLE)


def _open_avif(file: BinaryIO, path: Path, first_page: bool) -> Stored:
    image = _open_vips(file, "heif")
    _check_single(image.get("n-pages"))
    bits = image.get("bits-per-sample") if image.format == "ushort" else 8
    take = rows_of(image)
    return _stored(image, file, lambda rows: _fill(take(rows), bits), _depth_metadata(bits), AVIF_SAMPLE)


def _open_heic(file: BinaryIO, path: Path, first_page: bool) -> Stored:
    """Decode with pillow-heif; like libvips, it turns the picture upright itself and ignores EXIF's orientation."""
    try:
        import pillow_heif
    except ImportError as error:
        raise UserError("HEIC needs a decoder: pip install '.[heic]' in a clone of img2img") from error
    heif = pillow_heif.open_heif(file, convert_hdr_to_8bit=False)
    _check_single(len(heif))
    bits = heif.info.get("bit_depth", 8)
    names = {"exif-data": "exif", "icc-profile-data": "icc_profile", "xmp-data": "xmp"}
    kept = metadata.upright({name: bytes(heif.info[key]) for name, key in names.items() if heif.info.get(key)})
    mode, _, deep = heif.mode.partition(";")  # L, LA, RGB or RGBA, and ";16" if deeper than 8 bits
    dtype, take = np.dtype(np.uint16 if deep else np.uint8), rows_of_whole(lambda: _fill(np.asarray(heif), bits))
    width, height = heif.size
    held = held_by_decoder(HEIC_SAMPLE, width, height, len(mode), bool(deep))
    return Stored(width, height, len(mode), dtype, kept | _depth_metadata(bits), take, file.close, held=held)


def _check_single(pictures: int) -> None:
    if pictures > 1:
        raise ValueError(f"{pictures} pictures in one file: not supported, use a TIFF with several pages")


def _depth_metadata(bits: int) -> dict[str, object]:
    """Return the bit depth as metadata if no dtype expresses it."""
    return {"bits-per-sample": bits} if 8 < bits < 16 else {}


def _fill(pixels: Pixels, bits: int) -> Pixels:
    """Stretch samples of 9 to 15 bits, shifted up by their decoder, to all of uint16, so that white is 65535."""
    return pixels | pixels >> bits if 8 < bits < 16 else pixels


def _open_bmp(file: BinaryIO, path: Path, first_page: bool) -> Stored:
    rows = BmpRows(file)
    kind = np.dtype(np.uint8)
    return Stored(rows.width, rows.height, rows.channels, kind, rows.resolution, rows.read, file.close, held=rows.held)


def _open_ppm(file: BinaryIO, path: Path, first_page: bool) -> Stored:
    rows = NetpbmRows(file)
    return Stored(rows.width, rows.height, rows.channels, rows.dtype, {}, rows.read, file.close)


_OPENERS = {
    "jpeg": _open_jpeg,
    "png": _open_png,
    "webp": _open_webp,
    "tiff": _open_tiff,
    "avif": _open_avif,
    "heic": _open_heic,
    "bmp": _open_bmp,
    "ppm": _open_ppm,
}
