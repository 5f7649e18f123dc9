"""How bodies are received, errors are answered, and files are sent."""

from __future__ import annotations

import asyncio
import errno
import mimetypes
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any
from urllib.parse import quote

from starlette.requests import ClientDisconnect, Request
from starlette.responses import FileResponse, JSONResponse, Response
from starlette.types import Receive, Scope, Send

from img2img.serve.limits import PATIENCE, Refused, parting


def answer(request: Request, error: Exception, said: Callable[[str], str]) -> Response:
    """Answers a request that cannot be granted with one line.

    Args:
        request: What was asked.
        error: Why it cannot be granted.
        said: Takes the paths of the server out of a line.
    """
    status, headers, reason = 422, dict[str, str](), str(error)
    if isinstance(error, Refused):
        status, headers = error.status, error.headers
    elif isinstance(error, FileNotFoundError):
        status, reason = 404, "the picture was removed"
    elif isinstance(error, OSError):
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        status, reason = (507, "the disk of the server is full") if full else (500, error.strerror or reason)
    return JSONResponse({"error": said(reason)}, status, headers | parting(request.headers))


async def body_of(request: Request) -> AsyncIterator[bytes]:
    """Yields the body in pieces.

    Raises:
        Refused: If nothing comes for a while, or the sender is gone.
    """
    pieces = request.stream()
    while True:
        try:
            async with asyncio.timeout(PATIENCE):
                piece = await anext(pieces)
        except StopAsyncIteration:
            return
        except TimeoutError:
            raise Refused(408, f"nothing came for {PATIENCE:g} seconds") from None
        except ClientDisconnect:
            raise Refused(400, "the sender is gone") from None
        yield piece


async def unless_gone(request: Request, result: asyncio.Future[Any]) -> None:
    """Waits for a result; the errors of it are raised.

    Raises:
        Refused: If the sender is gone.
    """
    gone: asyncio.Future[None] = asyncio.ensure_future(_gone(request))
    try:
        await asyncio.wait((gone, result), return_when=asyncio.FIRST_COMPLETED)
        if not result.done():
            raise Refused(400, "the sender is gone")
        result.result()
    finally:
        gone.cancel()
        result.cancel()


async def _gone(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


def attached(name: str) -> dict[str, str]:
    """Returns headers with which browsers save a file instead of showing it."""
    kind = mimetypes.guess_type(name)[0] or "application/octet-stream"
    return {"content-type": kind, "content-disposition": f"attachment; filename*=utf-8''{quote(name, safe='')}"}


class Sent(FileResponse):
    """Sends a file, and calls a function in the end, even if nobody receives it."""

    def __init__(self, file: Path, headers: dict[str, str], after: Callable[[], None]) -> None:
        super().__init__(file, headers=headers)
        self.after = after

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """See `Response`."""
        try:
            await super().__call__(scope, receive, send)
        finally:
            self.after()
