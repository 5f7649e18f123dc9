"""What a file says beside its pixels: EXIF, ICC, XMP, IPTC, resolution; taken from libvips and given back to it."""

from __future__ import annotations

import re

import pyvips

BLOBS = ("exif-data", "icc-profile-data", "xmp-data", "iptc-data")
_XMP_ORIENTATION = re.compile(rb"(tiff:Orientation(?:\s*=\s*[\"']|\s*>\s*))\d")
_NO_RESOLUTION = 72 / 25.4  # pixels per mm to write when the source has none: the default of EXIF


def collect(image: pyvips.Image, swapped: bool) -> dict[str, object]:
    """Take what has to be written back; `swapped` tells that the pixels will be turned by a quarter."""
    metadata: dict[str, object] = {name: image.get(name) for name in BLOBS if image.get_typeof(name)}
    resolution = (image.yres, image.xres) if swapped else (image.xres, image.yres)
    if resolution != (1.0, 1.0):  # libvips' word for "unknown"
        metadata["xres"], metadata["yres"] = resolution
    return upright(metadata)


def upright(metadata: dict[str, object]) -> dict[str, object]:
    """Say that the pixels stand upright, also in XMP: some viewers believe it and would turn them again."""
    xmp = metadata.get("xmp-data")
    if isinstance(xmp, bytes):
        metadata["xmp-data"] = _XMP_ORIENTATION.sub(rb"\g<1>1", xmp)
    metadata["orientation"] = 1
    return metadata


def resolution(metadata: dict[str, object]) -> tuple[float, float]:
    """Horizontal and vertical pixels per mm, where unknown those of 72 dpi."""
    x, y = (float(str(metadata.get(name, _NO_RESOLUTION))) for name in ("xres", "yres"))
    return x, y


def attach(image: pyvips.Image, metadata: dict[str, object]) -> pyvips.Image:
    """Give an image of libvips the metadata of another, as far as they fit its channels."""
    xres, yres = resolution(metadata)
    image = image.copy(xres=xres, yres=yres)
    profile = metadata.get("icc-profile-data")
    # A gray profile in the file of a coloured image would make it unreadable: bytes 16 to 20 name the colour space.
    unfit = isinstance(profile, bytes) and profile[16:20] != (b"GRAY" if image.bands < 3 else b"RGB ")
    for name in BLOBS:
        blob = metadata.get(name)
        # libvips refuses to write a picture for EXIF of fewer than 4 bytes.
        if isinstance(blob, bytes) and len(blob) >= 4 and not (unfit and name == "icc-profile-data"):
            image.set_type(pyvips.GValue.blob_type, name, blob)
    # Setting exif-data has spread its content over further fields, from which libvips writes it again.
    image.set_type(pyvips.GValue.gint_type, "orientation", 1)
    image.remove("jpeg-thumbnail-data")  # shows the picture before it was turned and restored
    image.set_type(pyvips.GValue.gstr_type, "resolution-unit", "in")
    return image
