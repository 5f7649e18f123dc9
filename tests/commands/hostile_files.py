"""Hostile and odd files, each with what must become of it."""

from __future__ import annotations

import io
import os
import socket
import struct
import zlib
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

OWN = (".img2img", "restore_report.json")


@dataclass(frozen=True)
class Good:
    """Restored, by a network that returns its input.

    Attributes:
        pixels: What the output must hold: H×W (gray) or H×W×C (LA, RGB, RGBA) in its dtype, of each page.
        off: Mean error that the format may make, levels.
        name: The output's, if not the input's.
        format: Of the output, by Pillow's name, where its suffix does not tell.
    """

    pixels: np.ndarray
    off: float = 0.0
    name: str = ""
    format: str = ""


@dataclass(frozen=True)
class Bad:
    """Reported by name, with a reason that holds these words."""

    reason: str


class Unread:
    """Passed over without a word."""


Table = dict[str, tuple[bytes, Good | Bad | Unread]]


def encoded(pixels: np.ndarray | Image.Image, kind: str, **options: object) -> bytes:
    """A file made by another program than ours: Pillow, or OpenCV for 16 bits and floats."""
    if isinstance(pixels, np.ndarray) and pixels.dtype != np.uint8:
        order = {3: [2, 1, 0], 4: [2, 1, 0, 3]}.get(pixels.shape[2]) if pixels.ndim == 3 else None
        return cv2.imencode(f".{kind}", pixels if order is None else pixels[..., order])[1].tobytes()
    file = io.BytesIO()
    image = pixels if isinstance(pixels, Image.Image) else Image.fromarray(pixels)
    image.save(file, {"jpg": "jpeg", "tif": "tiff"}.get(kind, kind), **options)
    return file.getvalue()


def bomb() -> bytes:
    """A PNG of 57 bytes that claims 100,000×100,000 pixels."""
    header = struct.pack(">IIBBBBB", 100_000, 100_000, 8, 2, 0, 0, 0)
    data = b"\x89PNG\r\n\x1a\n"
    for name, content in ((b"IHDR", header), (b"IDAT", b""), (b"IEND", b"")):
        data += struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))
    return data


def depths(photo: np.ndarray) -> Table:
    """Every kind of pixel that a file can hold."""
    small, alpha = photo[:24, :32], photo[50:74, :32, 0]
    gray, deep = small[..., 0], photo[:24, :32].astype(np.uint16) * 257
    rgba, la = np.dstack([small, alpha]), np.dstack([gray, alpha])
    floats = (small / 255).astype(np.float32)
    palette = Image.fromarray(small).quantize(16)
    clear = palette.copy()
    clear.info["transparency"] = bytes([0, 100, *[255] * 14])
    cmyk = Image.fromarray(small).convert("CMYK")
    corners = [[[200, 30, 30], [30, 200, 30]], [[30, 30, 200], [220, 220, 220]]]
    upright = np.kron(np.array(corners), np.ones((16, 24, 1))).astype(np.uint8)
    table: Table = {
        "1x1.png": (encoded(small[:1, :1], "png"), Good(small[:1, :1])),
        "1xn.png": (encoded(small[:1], "png"), Good(small[:1])),
        "nx1.png": (encoded(small[:, :1], "png"), Good(small[:, :1])),
        "1x1.jpg": (encoded(small[:1, :1], "jpg", quality=95), Good(small[:1, :1], 8)),
        "odd.png": (encoded(small[:13, :17], "png"), Good(small[:13, :17])),
        "gray.png": (encoded(gray, "png"), Good(gray)),
        "gray16.png": (encoded(deep[..., 0], "png"), Good(deep[..., 0])),
        "rgb16.png": (encoded(deep, "png"), Good(deep)),
        "rgba.png": (encoded(rgba, "png"), Good(rgba)),
        "rgba16.png": (encoded(rgba.astype(np.uint16) * 257, "png"), Good(rgba.astype(np.uint16) * 257)),
        "la.png": (encoded(la, "png"), Good(la)),
        "palette.png": (encoded(palette, "png"), Good(np.array(palette.convert("RGB")))),
        "clear palette.png": (encoded(clear, "png"), Good(np.array(clear.convert("RGBA")))),
        "bits.png": (encoded(Image.fromarray(gray > 99), "png"), Good((gray > 99) * np.uint8(255))),
        "gray.jpg": (encoded(gray, "jpg", quality=95), Good(gray, 3)),
        "cmyk.jpg": (encoded(cmyk, "jpg", quality=95), Good(small, 40)),  # through a profile: other colours
        "float.tif": (encoded(floats, "tif"), Good(floats)),
        "deep.tif": (encoded(deep, "tif"), Good(deep)),
        "pages.tif": (
            encoded(Image.fromarray(small), "tif", save_all=True, append_images=[Image.fromarray(photo[100:124, :32])]),
            Good(np.stack([small, photo[100:124, :32]])),
        ),
        "a.avif": (encoded(small, "avif", quality=95), Good(small, 6)),
        "a.webp": (encoded(small, "webp", quality=95), Good(small, 6)),
        "alpha.webp": (encoded(rgba, "webp", lossless=True, exact=True), Good(rgba, 6)),
        "a.bmp": (encoded(small, "bmp"), Good(small)),
        "8.ppm": (encoded(small, "ppm"), Good(small)),
        "16.ppm": (b"P6 32 24 65535\n" + deep.astype(">u2").tobytes(), Good(deep)),
        "8.pgm": (encoded(gray, "ppm"), Good(gray)),
    }
    for turn in range(1, 9):
        exif = Image.Exif()
        exif[0x0112] = turn
        data = encoded(undo(upright, turn), "jpg", quality=95, exif=exif)
        table[f"turned {turn}.jpg"] = (data, Good(upright, 4))
    return table


def undo(upright: np.ndarray, orientation: int) -> Image.Image:
    """How a camera stores what a viewer turns upright by this EXIF orientation."""
    way = {
        1: None,
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_90,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
    }[orientation]
    picture = Image.fromarray(upright)
    return picture if way is None else picture.transpose(way)


def names(photo: np.ndarray) -> Table:
    """Every kind of name that a file can have."""
    small = photo[:24, :32]
    data = encoded(small, "png")
    good = (data, Good(small))
    odd = [
        "with space.png", "köln.png", "a[0].png", "quo'te\".png", "-dash.png", "--model.png", "new\nline.png",
        "\x1b[31mred.png", "line\u2028separator.png", os.fsdecode(b"latin-\xe4.png"), "%s {0} $HOME.png", "#.png",
        "x" * 251 + ".png", "deep/er/and/deeper/a.png", "folder.png/inside.png", "SUFFIX.PNG", "two.dots.png",
        "same.png", "-folder/a.png", "restore_report.png",
    ]  # fmt: skip
    table: Table = dict.fromkeys(odd, good)
    table["same.tif"] = (encoded(small, "tif"), Good(small))
    table["same.PNG"] = (encoded(small[:9], "png"), Good(small[:9]))
    table["png named.jpg"] = (data, Good(small, 3, format="JPEG"))
    table["jpg named.png"] = (encoded(small, "jpg", quality=95), Good(small, 3, format="PNG"))
    table[".hidden.png"] = table[".hidden/a.png"] = (data, Unread())
    table["notes.txt"] = (b"no image", Unread())
    return table


def broken(photo: np.ndarray) -> Table:
    """Files that are no image, or none any more."""
    big = photo[:96, :128]
    table: Table = {
        "zero.png": (b"", Bad("empty")),
        "one byte.png": (b"\x89", Bad("not a")),
        "text.png": (b"this is no picture", Bad("not a")),
        "svg.png": (b'<svg xmlns="http://www.w3.org/2000/svg" width="9" height="9"/>', Bad("not a")),
        "bomb.png": (bomb(), Bad("exceed")),
        "bomb.ppm": (b"P6 99999999 99999999 255\n", Bad("exceed")),
        "moves.png": (animated(photo, "png"), Bad("animated")),
        "moves.webp": (animated(photo, "webp"), Bad("animated")),
        "sizes.tif": (sizes(photo), Bad("pages of different sizes")),
        "vanishes.png": (encoded(big, "png"), Bad("No such file")),
    }
    for suffix in ("png", "jpg", "tif", "webp", "avif", "bmp", "ppm"):
        data = encoded(big, suffix)
        table[f"cut.{suffix}"] = (data[: len(data) * 2 // 3], Bad("cannot read"))
    return table


def animated(photo: np.ndarray, kind: str) -> bytes:
    frames = [Image.fromarray(photo[top : top + 9, :9]) for top in (0, 100)]
    return encoded(frames[0], kind, save_all=True, append_images=frames[1:])


def sizes(photo: np.ndarray) -> bytes:
    return encoded(Image.fromarray(photo[:9, :9]), "tif", save_all=True, append_images=[Image.fromarray(photo[:8, :8])])


def fill(folder: Path, table: Table) -> None:
    for name, (data, _) in table.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)


def add_special(folder: Path, table: Table, outside: Path) -> None:
    """Adds what is no plain file: links, a pipe, a socket, a file that may not be written, one that may not be read."""
    data, good = table["odd.png"]
    outside.mkdir()
    (outside / "a.png").write_bytes(data)
    (folder / "link.png").symlink_to(outside / "a.png")
    (folder / "linked folder").symlink_to(outside)
    (folder / "circle").symlink_to(folder)
    (folder / "dangling.png").symlink_to(outside / "nowhere.png")
    os.link(folder / "odd.png", folder / "hard link.png")
    os.mkfifo(folder / "pipe.png")
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(os.path.relpath(folder / "socket.png"))
    (folder / "read only.png").write_bytes(data)
    (folder / "read only.png").chmod(0o444)
    for name in ("link.png", "linked folder/a.png", "hard link.png", "read only.png"):
        table[name] = (data, good)
    table["dangling.png"] = (b"", Bad("No such file"))
    table["pipe.png"] = table["socket.png"] = (b"", Bad("not a file but a"))
    if os.geteuid():  # nothing is unreadable to root
        (folder / "forbidden.png").write_bytes(data)
        (folder / "forbidden.png").chmod(0)
        table["forbidden.png"] = (data, Bad("Permission denied"))


def contents(folder: Path) -> dict[str, bytes]:
    """All plain files of a folder that are not a run's own, by name."""
    found = {}
    for path in folder.rglob("*"):
        name = path.relative_to(folder).as_posix()
        if path.is_file() and os.access(path, os.R_OK) and not name.startswith(OWN):
            found[name] = path.read_bytes()
    return found
