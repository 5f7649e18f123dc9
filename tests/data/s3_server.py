"""A server that speaks S3 on this machine, from moto, with one bucket."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager

import fsspec

BUCKET = "photographs"


@contextmanager
def s3_server() -> Iterator[str]:
    """Starts it, points the clients at it through the environment, and gives the address of the bucket."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    url = f"http://127.0.0.1:{port}"
    keys = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test", "AWS_DEFAULT_REGION": "us-east-1"}
    settings = keys | {
        "AWS_ENDPOINT_URL": url,
        "AWS_CONFIG_FILE": os.devnull,
        "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
    }
    before = dict(os.environ)
    server = subprocess.Popen(
        [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        os.environ.update(settings)
        for _ in range(200):
            try:
                urllib.request.urlopen(urllib.request.Request(f"{url}/{BUCKET}", method="PUT"), timeout=5)
                break
            except urllib.error.URLError:
                assert server.poll() is None, "the server ended"
                time.sleep(0.1)
        fsspec.get_filesystem_class("s3").clear_instance_cache()  # of an earlier server in this process
        yield f"s3://{BUCKET}"
    finally:
        server.kill()
        server.wait()
        os.environ.clear()
        os.environ.update(before)
