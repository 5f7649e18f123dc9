"""Drives a real browser through the pipe of its DevTools protocol, without a driver, a port or another package."""

from __future__ import annotations

import json
import os
import select
import shutil
import subprocess
import time
from pathlib import Path

COMMAND = next(filter(None, map(shutil.which, ["chromium", "chromium-browser", "google-chrome", "chrome"])), None)
PATIENCE = 60  # seconds; on a busy machine a browser needs several to start


class Browser:
    """Headless Chromium with one open tab of 900×900 pixels."""

    def __init__(self, folder: Path) -> None:
        assert COMMAND is not None
        for name in ("in", "out"):
            os.mkfifo(folder / name)
        # Opened for both directions, because opening would otherwise wait for the other side.
        self._in, self._out = (os.open(folder / name, os.O_RDWR) for name in ("in", "out"))
        self._received, self._last, self._session = b"", 0, ""
        self.events: list[dict] = []
        flags = ["--headless=new", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--no-first-run"]
        flags += ["--disable-background-networking", "--disable-dev-shm-usage", "--remote-debugging-pipe"]
        flags += ["--window-size=900,900", f"--user-data-dir={folder / 'profile'}", "about:blank"]
        self._log = open(folder / "log", "wb")  # noqa: SIM115
        # The protocol needs the pipes as descriptors 3 and 4, which a shell can provide.
        shell = ["sh", "-c", 'exec "$@" 3<"$0/in" 4>"$0/out"', str(folder), COMMAND, *flags]
        self._process = subprocess.Popen(shell, stdout=self._log, stderr=self._log)
        target = self.send("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.send("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Network", "Runtime", "Log"):
            self.send(f"{domain}.enable")

    def close(self) -> None:
        """Ends the browser that this object started."""
        self._session = ""
        try:
            self.send("Browser.close")
            self._process.wait(PATIENCE)
        finally:
            self._process.kill()
            self._log.close()
            os.close(self._in)
            os.close(self._out)

    def send(self, method: str, **parameters) -> dict:
        """Sends a command and returns its result; events that come in between are kept in `events`."""
        self._last += 1
        message = {"id": self._last, "method": method, "params": parameters}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._in, json.dumps(message).encode() + b"\0")
        while (answer := self._receive()).get("id") != self._last:
            self.events.append(answer)
        assert "error" not in answer, f"{method}: {answer['error']}"
        return answer["result"]

    def _receive(self) -> dict:
        end = time.monotonic() + PATIENCE
        while b"\0" not in self._received:
            ready, _, _ = select.select([self._out], [], [], 0.5)
            if ready:
                self._received += os.read(self._out, 1 << 20)
            assert self._process.poll() is None, "the browser ended"
            assert time.monotonic() < end, f"the browser said nothing for {PATIENCE} s"
        message, _, self._received = self._received.partition(b"\0")
        return json.loads(message)

    def open(self, page: Path | str) -> None:
        """Loads a page, a file or an address, and returns when it is loaded."""
        self.events.clear()
        self.send("Page.navigate", url=page if isinstance(page, str) else page.as_uri())
        while not any(event["method"] == "Page.loadEventFired" for event in self.events):
            self.events.append(self._receive())

    def run(self, script: str):
        """Returns the value of an expression in the page; waits if it is a promise."""
        answer = self.send("Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True)
        assert "exceptionDetails" not in answer, answer["exceptionDetails"]
        return answer["result"].get("value")

    def wait(self, condition: str) -> None:
        """Waits until an expression in the page is true."""
        end = time.monotonic() + PATIENCE
        while not self.run(f"Boolean({condition})"):
            assert time.monotonic() < end, f"never true: {condition}"
            time.sleep(0.02)

    def mouse(self, kind: str, x: float, y: float) -> None:
        """Presses, moves or releases the left button at a position in the window, as a real input event."""
        pressed = int(kind != "mouseReleased")
        self.send("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", buttons=pressed, clickCount=1)

    def drag(self, start: tuple[float, float], end: tuple[float, float]) -> None:
        """Drags from one place to another in five steps."""
        self.mouse("mousePressed", *start)
        for step in range(1, 6):
            self.mouse("mouseMoved", *(a + (b - a) * step / 5 for a, b in zip(start, end, strict=True)))
        self.mouse("mouseReleased", *end)

    def press(self, key: str) -> None:
        """Presses a key that types nothing, such as ArrowRight."""
        codes = {"ArrowLeft": 37, "ArrowRight": 39, "Escape": 27, "Tab": 9}
        for kind in ("rawKeyDown", "keyUp"):
            self.send("Input.dispatchKeyEvent", type=kind, key=key, code=key, windowsVirtualKeyCode=codes[key])
