"""A server in this process with models that need no training, and a client that says exactly what it sends."""

from __future__ import annotations

import http.client
import io
import json
import socket
import struct
import threading
import time
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit

import numpy as np
from PIL import Image
from torch import nn

import img2img
from img2img.serve.limits import Limits
from img2img.serve.server import Server
from img2img.serve.shelf import Model, Shelf
from img2img.serve.work import Engine
from img2img.tasks import Restoration
from tests.commands.models import FILLING, UNCERTAIN, save_model


class Double(nn.Module):
    """Enlarges two times, and brightens, so that a strength shows."""

    in_channels, scale = 3, 2

    def forward(self, image):
        return nn.functional.interpolate(image, scale_factor=2, mode="nearest") * 0.5 + 0.5


def shelf_of(folder: Path) -> Shelf:
    """Models that change what they see: `plain`, `fill` fills holes, `unsure` estimates σ, `double` enlarges."""
    models = []
    for name, recipe in (("plain", None), ("fill", FILLING), ("unsure", UNCERTAIN)):
        file = save_model(folder / f"{name}.ckpt", 0.05, **({} if recipe is None else {"recipe": recipe}))
        models.append(Model(name, file, img2img.load(file), f"Model for {name}."))
    return Shelf([*models, Model("double", None, Restoration(Double()))])


@contextmanager
def serving(shelf: Shelf, memory: str | None = None, **limits: Any) -> Iterator[LocalClient]:
    with Server(shelf, Engine("cpu", "32-true", memory), Limits(**limits)) as server:
        thread = threading.Thread(target=server.run, daemon=True)
        thread.start()
        client = LocalClient(server)
        while not server._uvicorn.started:
            time.sleep(0.01)
        yield client
        server.stop()
        thread.join(20)
        assert not thread.is_alive()
    assert not server.pictures.folder.exists(), "nothing is left behind"


@dataclass
class Answer:
    status: int
    body: bytes
    headers: Any

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class Client:
    """Speaks to a server as a program would; the connection is new for each request."""

    def __init__(self, address: str) -> None:
        parts = urlsplit(address)
        self.host, self.port, self.root = parts.hostname or "", parts.port or 80, parts.path

    def ask(
        self, method: str, path: str, body: Any = None, headers: Any = None, whole: bool = False, **query
    ) -> Answer:
        """Sends a request to a path below the token, or to the `whole` path."""
        more = "&".join(f"{key}={quote(str(value), safe='')}" for key, value in query.items())
        address = (path if whole else self.root + path) + (f"?{more}" if more else "")
        connection = http.client.HTTPConnection(self.host, self.port, timeout=60)
        connection.request(method, address, body, headers or {})
        answer = connection.getresponse()
        read = Answer(answer.status, answer.read(), answer.headers)
        connection.close()
        return read

    def raw(self) -> socket.socket:
        return socket.create_connection((self.host, self.port), timeout=60)

    def restore(self, data: bytes, name: str = "a.png", **query) -> Answer:
        return self.ask("POST", "restore", data, name=name, **query)

    def add(self, data: bytes, name: str = "a.png") -> dict[str, Any]:
        answer = self.ask("POST", "pictures", data, name=name)
        assert answer.status == 201, answer.body
        return answer.json

    def finish(self, id: str, **query) -> dict[str, Any]:
        """Restores a picture that was added, and returns what the page is told then."""
        answer = self.ask("POST", f"pictures/{id}/restore", **query)
        assert answer.status == 202, answer.body
        return self.wait(id, "restored", "failed")

    def wait(self, id: str, *states: str) -> dict[str, Any]:
        end = time.monotonic() + 60
        while time.monotonic() < end:
            found = next(each for each in self.ask("GET", "state").json["pictures"] if each["id"] == id)
            if found["state"] in states:
                return found
            time.sleep(0.02)
        raise AssertionError(f"never {states}: {found}")


class LocalClient(Client):
    """A client that can look into its `server`."""

    def __init__(self, server: Server) -> None:
        super().__init__(server.address)
        self.server = server


def until(condition):
    end = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


def as_file(pixels: np.ndarray, kind: str = "PNG", **more: Any) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, kind, **more)
    return file.getvalue()


def pixels_of(data: bytes) -> np.ndarray:
    return np.array(Image.open(io.BytesIO(data)))


def png_bomb(side: int) -> bytes:
    """A PNG of a few bytes that claims side × side pixels."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(b"\0" * 1000))
        + chunk(b"IEND", b"")
    )
