"""Metadata of image files: takes EXIF, ICC, XMP, IPTC and resolution from libvips and gives them back to it."""

from __future__ import annotations

import re

import pyvips

BLOBS = ("exif-data", "icc-profile-data", "xmp-data", "iptc-data")
_XMP_ORIENTATION = re.compile(rb"(tiff:Orientation(?:\s*=\s*[\"']|\s*>\s*))\d")
_NO_RESOLUTION = 72 / 25.4  # pixels per mm to write when the source has none: the default of EXIF


def collect(image: pyvips.Image, swapped: bool) -> dict[str, object]:
    """Return the metadata to write back; `swapped` says that width and height will be swapped."""
    metadata: dict[str, object] = {name: image.get(name) for name in BLOBS if image.get_typeof(name)}
    resolution = (image.yres, image.xres) if swapped else (image.xres, image.yres)
    if resolution != (1.0, 1.0):  # libvips' value for "unknown"
        metadata["xres"], metadata["yres"] = resolution
    return upright(metadata)


def upright(metadata: dict[str, object]) -> dict[str, object]:
    """Mark the pixels as upright, also in XMP, because some viewers follow it and would turn them again."""
    xmp = metadata.get("xmp-data")
    if isinstance(xmp, bytes):
        metadata["xmp-data"] = _XMP_ORIENTATION.sub(rb"\g<1>1", xmp)
    metadata["orientation"] = 1
    return metadata


def resolution(metadata: dict[str, object]) -> tuple[float, float]:
    """Return the horizontal and vertical pixels per mm, or those of 72 dpi if unknown."""
    x, y = (float(str(metadata.get(name, _NO_RESOLUTION))) for name in ("xres", "yres"))
    return x, y


def attach(image: pyvips.Image, metadata: dict[str, object]) -> pyvips.Image:
    """Return a libvips image with the given metadata, as far as they fit its channels."""
    xres, yres = resolution(metadata)
    image = image.copy(xres=xres, yres=yres)
    profile = metadata.get("icc-profile-data")
    # A gray profile in the file of a coloured image would make it unreadable: bytes 16 to 20 name the colour space.
    unfit = isinstance(profile, bytes) and profile[16:20] != (b"GRAY" if image.bands < 3 else b"RGB ")
    for name in BLOBS:
        blob = metadata.get(name)
        # libvips refuses to write a picture with EXIF of fewer than 4 bytes.
        if isinstance(blob, bytes) and len(blob) >= 4 and not (unfit and name == "icc-profile-data"):
            image.set_type(pyvips.GValue.blob_type, name, blob)
    # Setting exif-data has copied its content into other fields, from which libvips writes it.
    image.set_type(pyvips.GValue.gint_type, "orientation", 1)
    image.remove("jpeg-thumbnail-data")  # it shows the picture before turning and restoring
    image.set_type(pyvips.GValue.gstr_type, "resolution-unit", "in")
    return image
