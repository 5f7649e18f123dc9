"""Pixels on disk: the only module of the program that touches image files.

JPEG, PNG, WebP and TIFF go through libvips, which keeps 16 bits and metadata. BMP goes through Pillow,
because the libvips inside the wheels has no BMP, and so do the pixels of WebP (see `_decode`). Both work on
bytes that Python has read or will write. That way libvips never answers from its cache of opened files, never
parses `[...]` in a file name as options, and never leaves half a file.

Reading starts no libvips threads and is safe in forked worker processes. Writing uses libvips' thread pool,
which does not survive a fork: write in the process that started, or in spawned ones.
"""

import io
import os
import re
import struct
import uuid
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyvips
from PIL import BmpImagePlugin, WebPImagePlugin
from PIL import Image as PillowImage

from img2img.imaging.folders import SUFFIXES, find_images
from img2img.imaging.values import Pixels, from_float, to_channels, to_float

__all__ = [
    "SUFFIXES",
    "Image",
    "UnreadableImage",
    "find_images",
    "from_float",
    "read_image",
    "to_channels",
    "to_float",
    "write_image",
]

MAX_PIXELS = 2_000_000_000  # a larger header is a decompression bomb or damage, not a picture

# The first bytes choose the loader: a PNG named .jpg still opens, and no rarer loader (SVG, PDF) is reached.
_LOADERS = (
    (re.compile(rb"\xff\xd8\xff"), "jpegload_buffer"),
    (re.compile(rb"\x89PNG\r\n\x1a\n"), "pngload_buffer"),
    (re.compile(rb"RIFF....WEBP", re.DOTALL), "webpload_buffer"),
    (re.compile(rb"II[*+]\0|MM\0[*+]"), "tiffload_buffer"),
)
_DTYPES = {"uchar": np.uint8, "ushort": np.uint16, "float": np.float32}
_BLOBS = ("exif-data", "icc-profile-data", "xmp-data", "iptc-data")
_XMP_ORIENTATION = re.compile(rb"(tiff:Orientation(?:\s*=\s*[\"']|\s*>\s*))\d")
_NO_RESOLUTION = 72 / 25.4  # pixels per mm to write when the source has none: the default of EXIF
_STRIP = 64  # rows decoded at a time


class UnreadableImage(ValueError):
    """A file is missing, damaged, too large or no image; one line names the file and the reason."""


@dataclass(frozen=True, eq=False)
class Image:
    """A decoded picture, upright.

    Attributes:
        pixels: HxWx1 (gray) or HxWx3 (RGB); uint8, uint16 or float32 as stored in the file.
        alpha: HxWx1 opacity of the same dtype, or None.
        metadata: what `write_image` needs to write EXIF, ICC, XMP, IPTC and resolution (pixels per mm) back.

    Raises:
        ValueError: shapes or dtypes are not as above.
    """

    pixels: Pixels
    alpha: Pixels | None
    metadata: dict[str, object]

    def __post_init__(self) -> None:
        """Refuse arrays that no file format could hold."""
        shape, dtype = self.pixels.shape, self.pixels.dtype
        if len(shape) != 3 or shape[2] not in (1, 3) or 0 in shape or dtype not in _DTYPES.values():
            raise ValueError(f"pixels must be HxWx1 or HxWx3 of uint8, uint16 or float32, not {shape} of {dtype}")
        if self.alpha is not None and (self.alpha.shape != (*shape[:2], 1) or self.alpha.dtype != dtype):
            raise ValueError(f"alpha {self.alpha.shape} of {self.alpha.dtype} does not fit pixels {shape} of {dtype}")


def read_image(path: Path) -> Image:
    """Decode a whole image file, upright, with the depth the file declares.

    Palettes become RGB, 1-bit becomes 8-bit gray, CMYK becomes sRGB through its profile; of several pages the
    first is read. The format is told from the content, not from the suffix.

    Raises:
        UnreadableImage: the file is missing, truncated, damaged, too large, or no supported image.
    """
    try:
        data = path.read_bytes()
        return _read_bmp(data) if data[:2] == b"BM" else _read_vips(data)
    except pyvips.Error as error:
        raise UnreadableImage(f"cannot read {path}: {_first_line(error)}") from error
    except OSError as error:
        raise UnreadableImage(f"cannot read {path}: {error.strerror or error}") from error
    except (
        ValueError,
        SyntaxError,
        EOFError,
        struct.error,
    ) as error:  # Pillow reports damage as any of these
        raise UnreadableImage(f"cannot read {path}: {error}") from error


def _first_line(error: pyvips.Error) -> str:
    """Shorten libvips' report, which repeats itself over several lines and is sometimes empty."""
    lines = str(error.detail or "").strip().splitlines()
    return lines[0] if lines else "damaged or truncated"


def _read_vips(data: bytes) -> Image:
    """Decode JPEG, PNG, WebP or TIFF bytes."""
    loader = next((name for magic, name in _LOADERS if magic.match(data)), None)
    if loader is None:
        raise ValueError("not a JPEG, PNG, WebP, TIFF or BMP file" if data else "the file is empty")
    # fail_on="error" because a truncated TIFF passes as "truncated", and everything passes by default
    image = getattr(pyvips.Image, loader)(data, access="sequential", fail_on="error")
    _check_size(image.width, image.height)
    if image.interpretation == "cmyk":
        depth = 16 if image.format == "ushort" else 8
        image = image.icc_transform("srgb", embedded=True, input_profile="cmyk", depth=depth)
    elif image.interpretation in ("lab", "labs"):
        image = image.colourspace("srgb")
    if image.format not in _DTYPES or image.bands > 4:
        raise ValueError(f"{image.bands} channels of type {image.format} are not supported")
    orientation = image.get("orientation") if image.get_typeof("orientation") else 1
    pixels = _decode_webp(data, image.bands) if loader == "webpload_buffer" else _decode(image)
    return _split(_upright(pixels, orientation), _collect_metadata(image, swapped=orientation >= 5))


def _check_size(width: int, height: int) -> None:
    """Refuse what would fill the memory before anything is decoded."""
    if width * height > MAX_PIXELS:
        raise ValueError(f"{width}x{height} pixels exceed the limit of {MAX_PIXELS}")


def _decode(image: pyvips.Image) -> Pixels:
    """Run the decoder over all rows; returns HxWxbands.

    Regions are computed in the calling thread. `Image.numpy()` would use libvips' thread pool instead, on
    which a forked data-loading worker waits forever, and start as many threads per worker as there are cores.
    libvips' WebP loader does so even here, hence `_decode_webp`.
    """
    pixels = np.empty((image.height, image.width, image.bands), _DTYPES[image.format])
    region = pyvips.Region.new(image)
    for top in range(0, image.height, _STRIP):
        strip = pixels[top : top + _STRIP]
        rows = region.fetch(0, top, image.width, len(strip))
        strip[...] = np.frombuffer(rows, pixels.dtype).reshape(strip.shape)
    return pixels


def _decode_webp(data: bytes, bands: int) -> Pixels:
    """Decode WebP by Pillow, in the calling thread; returns HxWx3 or HxWx4 uint8."""
    with WebPImagePlugin.WebPImageFile(io.BytesIO(data)) as file:
        return np.array(file.convert("RGBA" if bands == 4 else "RGB"))


def _upright(pixels: Pixels, orientation: int) -> Pixels:
    """Undo an EXIF orientation (1 to 8, others mean upright) of HxWxC pixels."""
    if orientation >= 5:  # 5 to 8 are stored on their side
        pixels = pixels.swapaxes(0, 1)
    if orientation in (3, 4, 7, 8):
        pixels = pixels[::-1]
    if orientation in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    return np.ascontiguousarray(pixels)


def _collect_metadata(image: pyvips.Image, swapped: bool) -> dict[str, object]:
    """Take what has to be written back; `swapped` tells that the pixels were turned by a quarter."""
    metadata: dict[str, object] = {name: image.get(name) for name in _BLOBS if image.get_typeof(name)}
    xmp = metadata.get("xmp-data")
    if isinstance(xmp, bytes):  # some viewers believe XMP and would turn the upright picture again
        metadata["xmp-data"] = _XMP_ORIENTATION.sub(rb"\g<1>1", xmp)
    metadata["orientation"] = 1
    resolution = (image.yres, image.xres) if swapped else (image.xres, image.yres)
    if resolution != (1.0, 1.0):  # libvips' word for "unknown"
        metadata["xres"], metadata["yres"] = resolution
    return metadata


def _split(pixels: Pixels, metadata: dict[str, object]) -> Image:
    """Separate a second or fourth channel, the alpha, from HxWx(1 to 4) pixels."""
    if pixels.shape[2] in (1, 3):
        return Image(pixels, None, metadata)
    return Image(np.ascontiguousarray(pixels[..., :-1]), np.ascontiguousarray(pixels[..., -1:]), metadata)


def _read_bmp(data: bytes) -> Image:
    """Decode BMP bytes, by Pillow's plug-in because `PIL.Image.open` has a lower limit of its own."""
    with BmpImagePlugin.BmpImageFile(io.BytesIO(data)) as file:
        _check_size(*file.size)
        mode = {"1": "L", "L": "L", "RGBA": "RGBA"}.get(file.mode, "RGB")
        pixels = np.array(file.convert(mode))
        xdpi, ydpi = file.info.get("dpi", (0, 0))
    metadata: dict[str, object] = {"xres": xdpi / 25.4, "yres": ydpi / 25.4} if xdpi and ydpi else {}
    return _split(pixels.reshape(*pixels.shape[:2], -1), metadata)


def write_image(path: Path, image: Image, *, quality: int = 95) -> None:
    """Write an image in the format of the suffix; the file appears complete or not at all.

    PNG and TIFF are lossless and keep uint16; JPEG, WebP and BMP scale it to 8 bits. Only TIFF holds float32.
    JPEG and BMP drop alpha, libvips writes no EXIF into TIFF, and BMP holds no metadata but resolution.
    Missing parent folders are made.

    Args:
        path: the target; an existing file is replaced.
        image: what to write.
        quality: 1 to 100, for JPEG and WebP only.

    Raises:
        ValueError: the suffix is unknown or the format cannot hold this image.
        OSError: the disk refuses.
    """
    try:
        data = _encode(path.suffix.lower(), image, quality)
    except pyvips.Error as error:
        raise ValueError(f"cannot write {path}: {_first_line(error)}") from error
    except ValueError as error:
        raise ValueError(f"cannot write {path}: {error}") from error
    path.parent.mkdir(parents=True, exist_ok=True)
    # In the same folder, so that replacing is a rename; `tempfile` would make it readable by its owner only.
    temporary = path.parent / f".{uuid.uuid4().hex}.part"
    try:
        with open(temporary, "xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:  # also when the user presses Ctrl-C
        temporary.unlink(missing_ok=True)
        raise


def _encode(suffix: str, image: Image, quality: int) -> bytes:
    """Encode an image as the bytes of a file with this suffix."""
    if suffix not in SUFFIXES:
        raise ValueError(f"unknown suffix {suffix!r}, use one of {', '.join(sorted(SUFFIXES))}")
    tiff, png = suffix in (".tif", ".tiff"), suffix == ".png"
    pixels = image.pixels
    if image.alpha is not None and (tiff or png or suffix == ".webp"):
        pixels = np.concatenate([pixels, image.alpha], axis=2)
    if pixels.dtype == np.float32 and not tiff:
        raise ValueError("only TIFF holds float32 pixels")
    if pixels.dtype == np.uint16 and not (tiff or png):
        pixels = from_float(to_float(pixels), np.dtype(np.uint8))
    if suffix == ".bmp":
        return _encode_bmp(pixels, image.metadata)
    source = _to_vips(pixels, image.metadata)
    if png:  # libvips' default is no filter, which makes photographs a third larger
        data = source.pngsave_buffer(compression=6, filter=pyvips.ForeignPngFilter.PAETH)
    elif tiff:
        predictor = "float" if pixels.dtype == np.float32 else "horizontal"
        big = pixels.nbytes > 3_000_000_000  # classic TIFF ends at 4 GiB, and noise may not compress
        data = source.tiffsave_buffer(compression="deflate", predictor=predictor, bigtiff=big)
    elif suffix == ".webp":
        data = source.webpsave_buffer(Q=quality, smart_subsample=True)
    else:
        data = source.jpegsave_buffer(Q=quality, subsample_mode="off")
    return bytes(data)


def _to_vips(pixels: Pixels, metadata: dict[str, object]) -> pyvips.Image:
    """Wrap HxWx(1 to 4) pixels and their metadata; only views with strides are copied."""
    deep = pixels.dtype == np.uint16
    # Without the right interpretation libvips would write uint16 as an 8-bit PNG.
    gray, colour = ("grey16", "rgb16") if deep else ("b-w", "srgb")
    interpretation = gray if pixels.shape[2] < 3 else colour
    image = pyvips.Image.new_from_array(pixels, interpretation=interpretation)
    xres, yres = metadata.get("xres", _NO_RESOLUTION), metadata.get("yres", _NO_RESOLUTION)
    image = image.copy(xres=xres, yres=yres)
    profile = metadata.get("icc-profile-data")
    # A gray profile in the file of a coloured image would make it unreadable: bytes 16 to 20 name the colour space.
    unfit = isinstance(profile, bytes) and profile[16:20] != (b"GRAY" if pixels.shape[2] < 3 else b"RGB ")
    for name in _BLOBS:
        if name in metadata and not (unfit and name == "icc-profile-data"):
            image.set_type(pyvips.GValue.blob_type, name, metadata[name])
    # Setting exif-data has spread its content over further fields, from which libvips writes it again.
    image.set_type(pyvips.GValue.gint_type, "orientation", 1)
    image.remove("jpeg-thumbnail-data")  # shows the picture before it was turned and restored
    image.set_type(pyvips.GValue.gstr_type, "resolution-unit", "in")
    return image


def _encode_bmp(pixels: Pixels, metadata: dict[str, object]) -> bytes:
    """Encode HxWx1 or HxWx3 uint8 pixels as BMP."""
    x, y = (float(str(metadata.get(name, _NO_RESOLUTION))) * 25.4 for name in ("xres", "yres"))
    file = io.BytesIO()
    PillowImage.fromarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels).save(file, "BMP", dpi=(x, y))
    return file.getvalue()
