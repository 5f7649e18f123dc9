"""Checkpoints that no `torch.save` writes: their pickles are put together by hand."""

from __future__ import annotations

import pickle
import struct
import zipfile
from pathlib import Path

FLOATS = 4
"""How many floats the archive holds in truth."""


def plain(value: object) -> bytes:
    return pickle.dumps(value, 2)[2:-1]


def call(module: str, name: str, *arguments: bytes) -> bytes:
    return named(module, name) + b"(" + b"".join(arguments) + b"tR"


def named(module: str, name: str) -> bytes:
    return f"c{module}\n{name}\n".encode()


def text(value: str) -> bytes:
    return b"X" + struct.pack("<I", len(value.encode())) + value.encode()


def dictionary(**parts: bytes) -> bytes:
    return b"}(" + b"".join(text(key) + part for key, part in parts.items()) + b"u"


def tensor(size: tuple[int, ...], stride: tuple[int, ...], claimed: int = FLOATS, offset: int = 0) -> bytes:
    """A tensor on the archive's floats, of which it may claim more than there are."""
    storage = b"(" + text("storage") + named("torch", "FloatStorage") + text("0") + text("cpu") + plain(claimed) + b"tQ"
    hooks = named("collections", "OrderedDict") + b")R"
    return call(
        "torch._utils", "_rebuild_tensor_v2", storage, plain(offset), plain(size), plain(stride), b"\x89", hooks
    )


def archive(path: Path, body: bytes, compression: int = zipfile.ZIP_STORED, **records: bytes) -> Path:
    """Writes an archive as `torch.save` does, with this pickle and further records."""
    with zipfile.ZipFile(path, "w", compression) as file:
        file.writestr("archive/data.pkl", b"\x80\x02" + body + b".")
        for name, content in (
            {"version": b"3\n", "byteorder": b"little", "data/0": bytes(4 * FLOATS)} | records
        ).items():
            file.writestr(f"archive/{name}", content)
    return path
