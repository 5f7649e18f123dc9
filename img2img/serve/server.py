"""The server: a private address on this machine, behind which pictures are restored one at a time."""

from __future__ import annotations

import secrets
import socket
import threading
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType

import uvicorn

from img2img.data.cache import cache_folder
from img2img.errors import UserError
from img2img.inference.interruption import Interruptible
from img2img.serve.api import Api
from img2img.serve.guard import Guard
from img2img.serve.limits import Limits
from img2img.serve.pictures import Pictures
from img2img.serve.shelf import Shelf
from img2img.serve.work import Engine, Queue, work_off

LOCAL = ("127.0.0.1", "localhost", "::1")
EVERYWHERE = ("0.0.0.0", "::", "")
CONNECTIONS = 128
"""Connections at a time; more are answered with status 503."""


class Server:
    """Listens at once, answers while `run` runs, and leaves nothing behind; a context manager.

    Args:
        shelf: The models.
        engine: How networks run.
        limits: How much is accepted.
        host: Name or address at which it listens.
        port: Its port; 0 for any free one.
        names: Further names or addresses that browsers may use for it, with their port if it is another one.

    Attributes:
        address: What to open in a browser; holds the token.

    Raises:
        UserError: If it cannot listen there, or listens everywhere without a name.
    """

    def __init__(
        self,
        shelf: Shelf,
        engine: Engine,
        limits: Limits,
        host: str = "127.0.0.1",
        port: int = 0,
        names: Sequence[str] = (),
    ) -> None:
        check_address(host, port, names)
        self._socket = _listening(host, port)
        port = self._socket.getsockname()[1]
        everywhere, token = host in EVERYWHERE, secrets.token_urlsafe(24)
        own = (*names, *LOCAL) if everywhere else (host, *names, *(LOCAL if host in LOCAL else ()))
        hosts = [_with_port(name, port) for name in own]
        self.address = f"http://{hosts[0]}/{token}/"
        self.pictures, self.queue = Pictures(cache_folder().parent / "serve", limits), Queue(limits.queue)
        self.app = Guard(Api(shelf, self.pictures, self.queue, limits).app(), token, {host.lower() for host in hosts})
        self._engine = engine
        config = uvicorn.Config(
            self.app,
            http="h11",
            ws="none",
            lifespan="off",
            log_level="warning",
            access_log=False,  # would hold the token
            server_header=False,
            limit_concurrency=CONNECTIONS,
            timeout_keep_alive=10,
            timeout_graceful_shutdown=2,
        )
        self._uvicorn = uvicorn.Server(config)
        self._thread = threading.Thread(target=self._uvicorn.run, args=([self._socket],), name="serve", daemon=True)

    def run(self) -> None:
        """Answers requests until `stop` is called, or Ctrl-C pressed; to be called in the main thread, once."""
        self._thread.start()
        with Interruptible():
            work_off(self.queue, self._engine.restore, lambda work: self.pictures.weigh(work.picture))

    def stop(self) -> None:
        """Lets `run` end soon, from another thread."""
        self.queue.close()
        for picture in self.pictures:
            if picture.work is not None:
                picture.work.cancel()

    def close(self) -> None:
        """Ends the server and removes all pictures, after `run` has ended."""
        self.stop()
        self._uvicorn.should_exit = True
        if self._thread.is_alive():
            self._thread.join(10)
        self._socket.close()
        self.pictures.close()

    def __enter__(self) -> Server:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()


def open_server(
    model: Sequence[str | Path] = (),
    host: str = "127.0.0.1",
    port: int = 0,
    name: Sequence[str] = (),
    max_megabytes: int = 500,
    max_megapixels: int = 250,
    max_gigabytes: int = 10,
    queue: int = 16,
    memory: str | None = None,
    accelerator: str = "auto",
    precision: str = "auto",
    trust: Sequence[str] = (),
) -> Server:
    """Opens a page in the browser on which pictures are dropped, restored, compared and downloaded.

    Args:
        model: Checkpoint or other file of a model to offer beside those that come with the program; may be given
            several times, the first is preferred.
        host: Address to listen at (default: 127.0.0.1, which only this machine reaches). Whoever is on the way to
            another address can read everything.
        port: Port to listen at (default: any free one).
        name: Further name of this machine that browsers may use; all others are refused. May be given several times.
        max_megabytes: Size of a file in megabytes at most (default: 500).
        max_megapixels: Size of a picture in megapixels at most, before it is decoded (default: 250).
        max_gigabytes: Gigabytes on disk at most, uploads and results together (default: 10).
        queue: How many pictures may wait for their turn (default: 16).
        memory: Memory limit of restoring, such as 2GB (default: half of what is free, at most 3 GB).
        accelerator: cpu, gpu, auto … as in Lightning (default: auto).
        precision: auto (default), or Lightning's names, such as 32-true.
        trust: Further package whose classes the checkpoints may name.

    Returns:
        The server, which listens but answers nothing before its `run`.

    Raises:
        UserError: If it cannot listen there, a model does not restore images, or an option is out of range.
        CheckpointError: If a model cannot be opened.
    """
    from img2img.inference.options import parse_size
    from img2img.serve.shelf import open_shelf
    from img2img.trainer import quieten

    limits = Limits(max_megabytes, max_megapixels, max_gigabytes, queue=queue)
    parse_size(memory)
    check_address(host, port, name)
    quieten()
    shelf = open_shelf(model, trust)
    return Server(shelf, Engine(accelerator, precision, memory), limits, host, port, name)  # type: ignore[arg-type]


def check_address(host: str, port: int, names: Sequence[str]) -> None:
    """Checks what can be checked of an address before the models are opened.

    Raises:
        UserError: If the port does not exist, or the server would listen everywhere without a name.
    """
    if not 0 <= port < 1 << 16:
        raise UserError(f"--port {port} does not exist; give 1 to 65535, or 0 for any free one")
    if host in EVERYWHERE and not names:
        raise UserError(
            f"--host {host or repr(host)} listens on every network: also give --name, the name or address of this "
            "machine that browsers will use"
        )


def _listening(host: str, port: int) -> socket.socket:
    """Returns a socket that listens at an address.

    Raises:
        UserError: If the address is not this machine's, or the port is taken.
    """
    try:
        family, _, _, _, address = socket.getaddrinfo(
            host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        return socket.create_server(address[:2], family=family, backlog=CONNECTIONS)
    except OSError as error:
        reason = error.strerror or error
        raise UserError(f"--host {host} --port {port}: nothing can listen there ({reason}); choose another") from error


def _with_port(name: str, port: int) -> str:
    """Returns a name as browsers write it in Host: with the port unless it is 80, or the name has its own."""
    if name.count(":") == 1 or "]:" in name:
        return name
    bracketed = f"[{name.strip('[]')}]" if ":" in name else name
    return bracketed if port == 80 else f"{bracketed}:{port}"
