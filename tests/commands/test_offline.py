"""No command opens a connection: each runs with sockets that refuse, in this process and those that it starts."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import TINY

REFUSE = """
import socket

connect = socket.socket.connect

def refuse(self, address, *rest):
    if self.family == socket.AF_UNIX:
        return connect(self, address)
    open("CONNECTED", "a").write(f"{address}\\n")
    raise OSError("there is no network")

socket.socket.connect = socket.socket.connect_ex = refuse
socket.getaddrinfo = lambda *address, **_: refuse(socket.socket(), address)
"""
SMALL = [*TINY[-2:], "--data.root=photos", "--data.batch_size=2", "--trainer.max_steps=2"]


@pytest.mark.slow
def test_restoring_training_and_scoring_need_no_network(photos):
    photos.rename("photos")
    Path("refusing").mkdir()
    Path("refusing/sitecustomize.py").write_text(REFUSE)
    environment = os.environ | {"PYTHONPATH": str(Path("refusing").absolute())}
    best = "runs/anomaly_autoencoder/0/best.ckpt"
    for arguments in (
        ["restore", "photos", "out", "--model=denoise", "--accelerator=cpu", "--html"],
        ["fit", "--config=denoise.yaml", *TINY, "--data.root=photos", "--trainer.max_steps=2", "--data.num_workers=1"],
        ["fit", "--config=anomaly_autoencoder.yaml", *SMALL, "--data.image_size=[32,32]"],
        ["score", "photos", "out.csv", f"--model={best}", "--accelerator=cpu", "--maps=maps"],
    ):
        program = Path(sys.executable).with_name("img2img")
        done = subprocess.run([program, *arguments], env=environment, capture_output=True, text=True, timeout=300)
        assert done.returncode == 0, done.stderr
        assert not Path("CONNECTED").exists(), f"{arguments[0]}: {Path('CONNECTED').read_text()}"
    probe = [sys.executable, "-c", "import socket; socket.create_connection(('127.0.0.1', 9))"]
    assert "there is no network" in subprocess.run(probe, env=environment, capture_output=True, text=True).stderr
