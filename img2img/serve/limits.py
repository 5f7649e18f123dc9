"""What the server refuses, and how much it accepts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields

from img2img.errors import UserError

PATIENCE = 30.0
"""Seconds that a sender may be silent in the middle of a picture."""
FORGOTTEN = 100_000_000
"""Bytes of a refused request that are received and forgotten, because many senders read no answer before they have sent
everything. After longer ones, and those of unknown length, the connection is closed."""


class Refused(Exception):
    """A request is refused.

    Attributes:
        status: The HTTP status.
        reason: One line for the person who asked.
        headers: Further headers of the answer.
    """

    def __init__(self, status: int, reason: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(reason)
        self.status, self.reason, self.headers = status, reason, dict(headers or {})


def parting(headers: Mapping[str, str]) -> dict[str, str]:
    """Returns the header with which a refusal closes the connection, if the rest of the request is to be cut off."""
    size = headers.get("content-length", "0")
    unknown = "transfer-encoding" in headers or not size.isdecimal()
    return {"connection": "close"} if unknown or int(size) > FORGOTTEN else {}


@dataclass(frozen=True)
class Limits:
    """How much the server accepts.

    Attributes:
        megabytes: Of one file.
        megapixels: Of one picture, all pages together; read from its header, before anything is decoded.
        gigabytes: Of all files that are held at a time, results too.
        pictures: How many are held at a time.
        queue: How many pictures may wait for their turn.
        uploads: How many files are received at a time; others wait.

    Raises:
        UserError: If a limit is less than 1.
    """

    megabytes: int = 500
    megapixels: int = 250
    gigabytes: int = 10
    pictures: int = 2000
    queue: int = 16
    uploads: int = 4

    def __post_init__(self) -> None:
        for field in fields(self):
            if getattr(self, field.name) < 1:
                raise UserError(f"the limit {field.name} is {getattr(self, field.name)}; it must be at least 1")

    def check_size(self, size: int) -> None:
        """Checks the bytes of a file.

        Raises:
            Refused: With status 413, if they are too many.
        """
        if size > self.megabytes * 1_000_000:
            raise Refused(413, f"the file is larger than {self.megabytes} MB, the limit of this server")

    def check_pixels(self, pixels: int) -> None:
        """Checks the pixels of a picture.

        Raises:
            Refused: With status 413, if they are too many.
        """
        if pixels > self.megapixels * 1_000_000:
            found = f"{pixels / 1e6:,.0f} megapixels"
            raise Refused(413, f"the picture has {found}; the limit of this server is {self.megapixels}")
