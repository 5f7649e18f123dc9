"""Pictures that the tests of this folder share."""

import io

import numpy as np
from PIL import Image as Pillow
from PIL import ImageCms

RNG = np.random.default_rng(0)
SIZES = [(1, 1), (7, 5), (33, 1000), (1000, 33)]
LOSSLESS = [".png", ".tif", ".tiff", ".bmp"]
SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()  # holds the time, so made once
XMP = (
    b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
    b'<rdf:Description xmlns:tiff="http://ns.adobe.com/tiff/1.0/" tiff:Orientation="6" tiff:Make="Ours"/>'
    b"</rdf:RDF></x:xmpmeta>"
)


def noise(height, width, channels, dtype=np.uint8):
    if np.dtype(dtype) == np.float32:
        return RNG.random((height, width, channels), np.float32)
    return RNG.integers(0, np.iinfo(dtype).max, (height, width, channels), dtype, endpoint=True)


def smooth(height=48, width=64, channels=3):
    """A picture that lossy formats keep well, different in each corner."""
    y, x = np.mgrid[0:height, 0:width]
    planes = [60 + 120 * x / width, 40 + 150 * y / height, 200 - 80 * (x + y) / (width + height)]
    return np.stack(planes[:channels], -1).round().astype(np.uint8)


def error(actual, expected):
    assert actual.shape == expected.shape
    return np.abs(actual.astype(int) - expected.astype(int)).mean()


def pillow_pixels(path):
    with Pillow.open(path) as file:
        return np.array(file)


def rle_bmp(side: int) -> bytes:
    """A BMP of a few hundred bytes that claims side × side pixels and holds them, run-length encoded."""
    body, left = bytes([255, 7]), side * side - 255
    while left >= side:
        up = min(255, left // side)
        body, left = body + bytes([0, 2, 0, up]), left - up * side
    while left:
        body, left = body + bytes([0, 2, min(255, left), 0]), left - min(255, left)
    file = io.BytesIO()
    Pillow.new("P", (1, 1)).save(file, "BMP")
    head = bytearray(file.getvalue()[: 54 + 1024])
    head[10:14] = (54 + 1024).to_bytes(4, "little")
    head[18:26] = side.to_bytes(4, "little") * 2
    head[30:38] = (1).to_bytes(4, "little") + (len(body) + 2).to_bytes(4, "little")
    return bytes(head) + b"\0" * (54 + 1024 - len(head)) + body + b"\0\1"
