"""The gate in front of every route: who may ask at all, and what browsers may do with the answers."""

from __future__ import annotations

import hmac
import json
import re
from collections.abc import Collection

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from img2img.serve.limits import Refused, parting

HEADERS = {
    "content-security-policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",  # the address holds the token
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "cache-control": "no-store",
}
"""Headers of every answer. There is none that lets other sites read it (CORS)."""

_ADDRESS = re.compile(r"/([\w-]+)(/.*)", re.DOTALL)


class Guard:
    """ASGI middleware that lets a request through only with the right Host, Origin and token.

    The check of Host stops pages that point a name of theirs at this machine (DNS rebinding); the check of Origin stops
    requests that other sites let a browser send; the token stops other users and programs of this machine. It is the
    first part of the path, so that no cookie carries it to other ports; programs may send it as `Authorization:
    Bearer …` instead.

    Args:
        app: What is guarded; sees paths without the token.
        token: The token.
        hosts: Values of Host under which the server may be addressed, in lower case, with the port if it is not 80.
    """

    def __init__(self, app: ASGIApp, token: str, hosts: Collection[str]) -> None:
        self.app, self.token, self.hosts = app, token, frozenset(hosts)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers a request, or hands it on."""
        if scope["type"] != "http":
            raise RuntimeError(f"the server speaks only HTTP, not {scope['type']}")

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(HEADERS)
            await send(message)

        try:
            path = self._admitted(scope)
        except Refused as refused:
            await _refuse(refused, Headers(scope=scope), send_with_headers)
        else:
            await self.app({**scope, "path": path, "raw_path": path.encode()}, receive, send_with_headers)

    def _admitted(self, scope: Scope) -> str:
        """Returns the path without the token.

        Raises:
            Refused: If the request may not pass.
        """
        headers = Headers(scope=scope)
        named = [host.lower() for host in headers.getlist("host")]
        if len(named) != 1 or named[0] not in self.hosts:
            raise Refused(421, "this server does not answer under that name; give it with --name if it should")
        origins = {f"http://{named[0]}", f"https://{named[0]}"}  # https: behind a proxy that has the same name
        if any(origin.lower() not in origins for origin in headers.getlist("origin")):
            raise Refused(403, "requests from other sites are refused")
        if any(site not in ("same-origin", "none") for site in headers.getlist("sec-fetch-site")):
            raise Refused(403, "requests from other sites are refused; type or paste the address")
        kind, _, given = headers.get("authorization", "").partition(" ")
        if kind.lower() == "bearer" and self._is_token(given):
            return str(scope["path"])
        match = _ADDRESS.fullmatch(scope["path"])
        if match is None or not self._is_token(match[1]):
            raise Refused(403, "the token is missing or wrong: open the whole address that img2img serve printed")
        return match[2]

    def _is_token(self, given: str) -> bool:
        return hmac.compare_digest(given.encode(), self.token.encode())


async def _refuse(refused: Refused, asked: Headers, send: Send) -> None:
    """Answers with one line of JSON."""
    body = json.dumps({"error": refused.reason}).encode()
    headers = {"content-type": "application/json", "content-length": str(len(body)), **parting(asked)}
    pairs = [(key.encode(), value.encode()) for key, value in headers.items()]
    await send({"type": "http.response.start", "status": refused.status, "headers": pairs})
    await send({"type": "http.response.body", "body": body})
