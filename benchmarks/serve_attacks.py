"""How `img2img serve` answers what would fill memory or disk, or comes from elsewhere.

    python -m benchmarks.serve_attacks

Starts the server with its default limits and the shipped models in a process of its own, attacks it over real
connections, and prints for each attack the answers, how long they took, the peak of the server's resident memory so
far, and what it still held on disk afterwards. The rows in parentheses show what it takes without an attack. The exit
code is 1 if an answer is not among those that are right, or something was left behind. Linux only, because of the peak.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Collection
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import numpy as np

from tests.imaging.samples import rle_bmp
from tests.serve.serving import Client, as_file, png_bomb

GIGABYTE = 1_000_000_000
PIECE = b"%x\r\n" % (1 << 20) + bytes(1 << 20) + b"\r\n"


def main() -> None:
    """Attacks and prints the table."""
    with tempfile.TemporaryDirectory() as cache:
        environment = os.environ | {"IMG2IMG_CACHE": cache}
        command = [sys.executable, "-m", "img2img", "serve", "--accelerator", "cpu"]
        with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as server:
            assert server.stdout is not None
            found = re.search(r"http://\S+", server.stdout.readline())
            assert found is not None, "the server says its address in its first line"
            client, held = Client(found[0]), Path(cache, "serve")
            print(f"{'':34}{'answers':26}{'seconds':>8}{'peak MB':>9}{'files left':>11}")
            right = [attack(name, run, wanted, client, server.pid, held) for name, (run, wanted) in ATTACKS.items()]
            server.send_signal(signal.SIGINT)
            server.wait()
        left = sum(path.name != "lock" for path in held.rglob("*"))
        print(f"after its end: exit code {server.returncode}, {left} files left")
        if left or server.returncode or not all(right):
            raise SystemExit(1)


def attack(
    name: str,
    run: Callable[[Client], Collection[object]],
    wanted: Collection[int],
    client: Client,
    process: int,
    held: Path,
) -> bool:
    """Runs an attack and prints its line; returns whether it was answered as wanted and left nothing."""
    began = time.monotonic()
    answers = Counter(run(client))
    seconds = time.monotonic() - began
    time.sleep(0.5)  # until it has cleaned up
    said = ", ".join(f"{count} × {status}" if count > 1 else str(status) for status, count in answers.items())
    left = sum(path.is_file() and path.name != "lock" for path in held.rglob("*"))
    print(f"{name:34}{said:26}{seconds:8.1f}{peak(process) / 1e6:9.0f}{left:11}", flush=True)
    return set(answers) <= set(wanted) and not left


def peak(process: int) -> int:
    """Returns the peak of a process's resident memory in bytes."""
    found = re.search(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{process}/status").read_text(encoding="ascii"))
    assert found is not None
    return int(found[1]) * 1024


def noise(height: int, width: int) -> bytes:
    """Returns a PNG that compresses badly."""
    return as_file(np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8), compress_level=1)


def posts(data: bytes, name: str) -> Callable[[Client], list[object]]:
    """Returns an attack that sends a body to be restored, and to be kept."""
    return lambda client: [client.ask("POST", path, data, name=name).status for path in ("restore", "pictures")]


def sends(path: str, headers: str, endless: bool) -> Callable[[Client], list[object]]:
    """Returns an attack that sends up to 2 GB of a body and reads the answer when it is cut off."""

    def run(client: Client) -> list[object]:
        head = f"POST {client.root}{path}?name=a.png HTTP/1.1\r\nHost: {client.host}:{client.port}\r\n{headers}\r\n\r\n"
        with client.raw() as connection:
            with suppress(ConnectionError):
                connection.sendall(head.encode())
                for _ in range(2 * GIGABYTE >> 20 if endless else 0):
                    connection.sendall(PIECE)
            with connection.makefile("rb") as answer:
                return [int(answer.readline().split()[1])]

    return run


def fifty(data: bytes, path: str) -> Callable[[Client], list[object]]:
    """Returns an attack that sends a picture fifty times at once; those that are kept are removed."""

    def run(client: Client) -> list[object]:
        with ThreadPoolExecutor(50) as pool:
            found = list(pool.map(lambda n: client.ask("POST", path, data, name=f"{n}.png").status, range(50)))
        client.ask("DELETE", "pictures")
        return list(found)

    return run


def asks(**headers: str) -> Callable[[Client], list[object]]:
    """Returns an attack that asks for the state with other headers."""
    return lambda client: [client.ask("GET", "state", headers=headers).status]


ATTACKS: dict[str, tuple[Callable[[Client], Collection[object]], Collection[int]]] = {
    "(nothing)": (lambda client: [client.ask("GET", "").status], {200}),
    "(one picture, 0.1 megapixels)": (lambda client: [client.restore(noise(300, 400)).status], {200}),
    "foreign Host": (asks(Host="evil.example"), {421}),
    "foreign Origin": (asks(Origin="http://evil.example"), {403}),
    "no token": (lambda client: [client.ask("GET", "/state", whole=True).status], {403}),
    "names with ../": (posts(noise(48, 64), "../../a.png"), {400}),
    "2 GB, declared": (sends("restore", f"Content-Length: {2 * GIGABYTE}", endless=False), {413}),
    "2 GB, streamed": (sends("restore", "Transfer-Encoding: chunked", endless=True), {413}),
    "2 GB, streamed, to be kept": (sends("pictures", "Transfer-Encoding: chunked", endless=True), {413}),
    "PNG that claims 60000×60000": (posts(png_bomb(60_000), "a.png"), {422}),
    "PNG that claims 40000×40000": (posts(png_bomb(40_000), "a.png"), {413}),
    "BMP that claims 20000×20000": (posts(rle_bmp(20_000), "a.bmp"), {413}),
    "50 pictures at once, 12 MP each": (fifty(noise(3000, 4000), "pictures"), {201}),
    "50 restorations at once": (fifty(noise(300, 400), "restore"), {200, 503}),
    "(one picture, 12 megapixels)": (lambda client: [client.restore(noise(3000, 4000)).status], {200}),
}
"""What is attempted, and the statuses that are right."""

if __name__ == "__main__":
    main()
