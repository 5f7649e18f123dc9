"""The routes: the page, what it asks for, and the HTTP API for other programs. docs/serve.md describes them."""

from __future__ import annotations

import asyncio
import mimetypes
from functools import partial
from importlib import resources
from pathlib import Path, PurePosixPath
from typing import Any

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from img2img.imaging.formats import SUFFIXES
from img2img.inference.masks import mask_finder
from img2img.inference.options import Options
from img2img.serve.exchange import Sent, answer, attached, body_of, unless_gone
from img2img.serve.limits import Limits, Refused
from img2img.serve.outputs import encode, fit_mask, names_in_zip, preview, zipped
from img2img.serve.pictures import Picture, Pictures
from img2img.serve.shelf import Shelf
from img2img.serve.work import Queue, Restored, Work

_PAGE = {
    "": ("img2img.serve", "page.html"),
    "page.css": ("img2img.inference", "page.css"),
    "divider.css": ("img2img.inference", "divider.css"),
    "enlarge.js": ("img2img.inference", "enlarge.js"),
    "divider.js": ("img2img.inference", "divider.js"),
    "strength.js": ("img2img.inference", "strength.js"),
    "serve.css": ("img2img.serve", "serve.css"),
    "serve.js": ("img2img.serve", "serve.js"),
    "icon.svg": ("img2img.serve", "icon.svg"),
}
"""The files of the page: package and name of each."""


class Api:
    """The routes of the server, without the guard before them.

    Args:
        shelf: The models.
        pictures: Where uploads are held.
        queue: Where works wait.
        limits: How much is accepted.
    """

    def __init__(self, shelf: Shelf, pictures: Pictures, queue: Queue, limits: Limits) -> None:
        self.shelf, self.pictures, self.queue, self.limits = shelf, pictures, queue, limits
        self._uploads = asyncio.Semaphore(limits.uploads)

    def app(self) -> Starlette:
        """Returns the application."""
        one = "/pictures/{id}"
        routes = [
            *(Route(f"/{name}", _static(*place)) for name, place in _PAGE.items()),
            Route("/state", self.state),
            Route("/restore", self.restore_one, methods=["POST"]),
            Route("/pictures", self.add, methods=["POST"]),
            Route("/pictures", self.remove_all, methods=["DELETE"]),
            Route("/pictures.zip", self.download_all),
            Route(one, self.remove, methods=["DELETE"]),
            Route(f"{one}/mask", self.paint, methods=["PUT"]),
            Route(f"{one}/restore", self.restore, methods=["POST"]),
            Route(f"{one}/download", self.download),
            Route(f"{one}/{{which}}", self.show),
        ]
        return Starlette(routes=routes, exception_handlers=dict.fromkeys((Refused, ValueError, OSError), self._answer))

    # For the page -------------------------------------------------------------------------------------------------

    async def state(self, request: Request) -> Response:
        """Answers with the models, the limits and all pictures."""
        about = {"megabytes": self.limits.megabytes, "suffixes": sorted(SUFFIXES), "models": self.shelf.describe()}
        return JSONResponse(about | {"pictures": [picture.describe() for picture in self.pictures]})

    async def add(self, request: Request) -> Response:
        """Receives a picture, the body of the request."""
        picture = await self._received(request, _text(request, "name"))
        return JSONResponse(picture.describe(), 201)

    async def remove(self, request: Request) -> Response:
        """Removes a picture."""
        await run_in_threadpool(self.pictures.remove, self._picture(request))
        return Response(status_code=204)

    async def remove_all(self, request: Request) -> Response:
        """Removes all pictures."""
        for picture in self.pictures:
            await run_in_threadpool(self.pictures.remove, picture)
        return Response(status_code=204)

    async def paint(self, request: Request) -> Response:
        """Receives the mask that was painted on a picture's preview."""
        picture = self._picture(request)
        painted = picture.folder / "painted.png"
        await self.pictures.receive(picture, painted, body_of(request))
        picture.mask = str(await run_in_threadpool(fit_mask, picture, painted))
        return JSONResponse(picture.describe())

    async def restore(self, request: Request) -> Response:
        """Lets a picture wait for the network."""
        picture = self._picture(request)
        if picture.work is not None and not picture.work.result.done():
            raise Refused(409, f"{picture.name} is being restored already")
        work = self._work(request, picture)
        self.queue.put(work)
        picture.work = work
        return JSONResponse(picture.describe(), 202)

    async def show(self, request: Request) -> Response:
        """Answers with the preview of a picture: `before`, `after` or `uncertainty`."""
        picture, which = self._picture(request), request.path_params["which"]
        if which == "before":
            file: Path | None = picture.source
        elif which in ("after", "uncertainty"):
            restored = _restored(picture)
            file = restored.image if which == "after" else restored.map
        else:
            file = None
        if file is None:
            raise Refused(404, f"{picture.name} has no {which}")
        return Response(await run_in_threadpool(preview, file), media_type="image/jpeg")

    async def download(self, request: Request) -> Response:
        """Answers with a restored picture of the wanted strength, or with its uncertainty map."""
        picture, name = self._picture(request), PurePosixPath(self._picture(request).name)
        restored = _restored(picture)
        if "uncertainty" in request.query_params:
            if restored.map is None:
                raise Refused(404, f"{picture.name} has no uncertainty map")
            body = await run_in_threadpool(restored.map.read_bytes)
            named = f"{name.stem}.uncertainty{restored.map.suffix}"
            return Response(body, headers=attached(named))
        file = await run_in_threadpool(encode, picture, restored, _strength(request))
        return Sent(file, attached(name.with_suffix(restored.suffix).name), partial(file.unlink, missing_ok=True))

    async def download_all(self, request: Request) -> Response:
        """Answers with all restored pictures as a ZIP file, in the folders that they came from."""
        strength = _strength(request)
        done = [picture for picture in self.pictures if picture.describe()["state"] == "restored"]
        if not done:
            raise Refused(404, "nothing is restored yet")
        made = (partial(encode, picture, _restored(picture), strength) for picture in done)
        return StreamingResponse(zipped(zip(names_in_zip(done), made, strict=True)), headers=attached("restored.zip"))

    # For other programs -------------------------------------------------------------------------------------------

    async def restore_one(self, request: Request) -> Response:
        """Restores the picture in the body of the request, and answers with the result; nothing of it is kept."""
        strength, mask = _strength(request), _text(request, "mask")
        if mask and mask != "alpha" and not mask.startswith("#"):  # anything else could be a path
            raise Refused(400, "the mask must be alpha or a colour such as #ff00ff (%23ff00ff in an address)")
        if mask:
            mask_finder(mask, [])
        self.queue.check_room()  # before all is sent in vain
        picture = await self._received(request, _text(request, "name", "picture.png"))
        try:
            picture.mask = mask or None
            picture.work = work = self._work(request, picture)
            self.queue.put(work)
            await unless_gone(request, asyncio.wrap_future(work.result))
            restored = _restored(picture)
            file = await run_in_threadpool(encode, picture, restored, strength)
        except BaseException:
            self.pictures.remove(picture)
            raise
        name = PurePosixPath(picture.name).with_suffix(restored.suffix).name
        return Sent(file, attached(name), partial(self.pictures.remove, picture))

    async def _answer(self, request: Request, error: Exception) -> Response:
        return answer(request, error, self.pictures.said)

    def _picture(self, request: Request) -> Picture:
        return self.pictures[request.path_params["id"]]

    async def _received(self, request: Request, name: str) -> Picture:
        size = request.headers.get("content-length")
        self.limits.check_size(int(size or 0))  # before it waits
        async with self._uploads:
            return await self.pictures.add(name, int(size or 0), body_of(request))

    def _work(self, request: Request, picture: Picture) -> Work:
        model = self.shelf[_text(request, "model")]
        if model.task.needs_mask and picture.mask is None:
            raise Refused(422, f"{model.name} fills holes: paint over what it should fill")
        uncertainty, self_ensemble = (_text(request, name) == "1" for name in ("uncertainty", "self_ensemble"))
        return Work(picture, model, uncertainty, self_ensemble)


def _static(package: str, name: str) -> Any:
    """Returns what answers with a file of the page."""
    body = resources.files(package).joinpath(name).read_bytes()
    kind = mimetypes.guess_type(name)[0]

    async def send(request: Request) -> Response:
        return Response(body, media_type=kind)

    return send


def _restored(picture: Picture) -> Restored:
    """Returns what was made of a picture.

    Raises:
        Refused: If nothing was, yet.
    """
    if picture.work is None or picture.describe()["state"] != "restored":
        raise Refused(404, f"{picture.name} is not restored yet")
    return picture.work.result.result()


def _text(request: Request, key: str, otherwise: str = "") -> str:
    return str(request.query_params.get(key, otherwise))


def _strength(request: Request) -> float:
    """Returns the strength that was asked for; 1 if none was.

    Raises:
        Refused: If it is not a number in the range.
    """
    try:
        strength = float(_text(request, "strength", "1"))
        Options(strength=strength)  # checks the range
    except ValueError as error:
        raise Refused(400, str(error)) from error
    return strength
