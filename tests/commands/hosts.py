"""Two hosts on one machine: network namespaces, each with its own address and name."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import uuid
from pathlib import Path

import pytest

from tests.pages import ROOT

ADDRESSES = "10.213.77."  # of a network that exists only between the two
PATIENT = 240
"""Seconds for a run, many times what it takes."""


class Hosts:
    """Two hosts, node0 and node1, that share a file system and a cable."""

    def __init__(self) -> None:
        self.name = f"i2i{uuid.uuid4().hex[:6]}"
        self.started: list[subprocess.Popen[str]] = []

    def open(self) -> None:
        try:
            for number in (0, 1):
                self._ip("netns", "add", self._space(number))
            cable = [f"{self.name}{end}" for end in "ab"]
            spaces = [self._space(number) for number in (0, 1)]
            self._ip("link", "add", cable[0], "netns", spaces[0], "type", "veth", "peer", cable[1], "netns", spaces[1])
            for number in (0, 1):
                here = ("-n", spaces[number])
                self._ip(*here, "link", "set", "lo", "up")
                self._ip(*here, "addr", "add", f"{ADDRESSES}{number + 1}/24", "dev", cable[number])
                self._ip(*here, "link", "set", cable[number], "up")
                etc = Path("/etc/netns", spaces[number])  # `ip netns exec` puts these files over those of /etc
                etc.mkdir(parents=True)
                names = "".join(f"{ADDRESSES}{each + 1} node{each}\n" for each in (0, 1))
                (etc / "hosts").write_text(f"127.0.0.1 localhost\n{names}")
                (etc / "nsswitch.conf").write_text("hosts: files\n")
            subprocess.run([*self._prefix(0), "true"], check=True, capture_output=True, text=True)
        except (OSError, subprocess.CalledProcessError) as error:
            self.close()
            pytest.skip(f"two hosts need the rights to add network namespaces: {getattr(error, 'stderr', '') or error}")

    def _ip(self, *arguments: str) -> str:
        return subprocess.run(["ip", *arguments], check=True, capture_output=True, text=True).stdout

    def _space(self, number: int) -> str:
        return f"{self.name}-{number}"

    def _prefix(self, number: int) -> list[str]:
        named = f'hostname node{number} && exec "$@"'
        return ["ip", "netns", "exec", self._space(number), "unshare", "--uts", "sh", "-c", named, "sh"]

    def start(self, number: int, command: list[str], **variables: str) -> subprocess.Popen[str]:
        """Starts a command on one host; what it prints goes into a file."""
        paths = os.pathsep.join([os.getcwd(), str(ROOT)])
        with open(f"node{number}-{len(self.started)}.log", "w") as log:
            process = subprocess.Popen(
                [*self._prefix(number), *command],
                stdout=log,
                stderr=subprocess.STDOUT,
                text=True,
                env=os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": paths} | variables,
            )
        process.log = Path(log.name)  # type: ignore[attr-defined]
        self.started.append(process)
        return process

    def kill(self, number: int) -> None:
        """Kills all that runs on a host, as when its power fails and its neighbours notice."""
        for pid in self._ip("netns", "pids", self._space(number)).split():
            with contextlib.suppress(ProcessLookupError):
                os.kill(int(pid), signal.SIGKILL)

    def unplug(self) -> None:
        """Cuts the cable, without a word to either end."""
        self._ip("-n", self._space(0), "link", "set", f"{self.name}a", "down")

    def close(self) -> None:
        for number in (0, 1):
            with contextlib.suppress(OSError, subprocess.CalledProcessError):
                self.kill(number)
                self._ip("netns", "del", self._space(number))
            shutil.rmtree(Path("/etc/netns", self._space(number)), ignore_errors=True)


def end(process: subprocess.Popen[str], code: int | None = 0) -> str:
    """Waits for a process; returns what it printed."""
    try:
        process.wait(PATIENT)
    finally:
        text = process.log.read_text()  # type: ignore[attr-defined]
        if process.returncode is None:
            print(text)
    assert code is None or process.returncode == code, text[-4000:]
    return text


def end_all(processes: list[subprocess.Popen[str]]) -> str:
    """Waits for all; returns what the first one printed."""
    return [end(process) for process in processes][0]  # noqa: RUF015  it waits for all of them
