"""`img2img serve` as a program: its address, its end, what it says when it cannot start."""

from __future__ import annotations

import importlib.util
import os
import re
import signal
import time
import urllib.request
from pathlib import Path

import pytest

from img2img.cli import main
from tests.commands.models import FILLING, save_model
from tests.commands.processes import start
from tests.imaging.samples import smooth
from tests.serve.serving import as_file, pixels_of


@pytest.fixture
def program(tmp_path):
    """Starts the server in a process of its own; returns the process and the address."""
    started = []

    def run(*arguments):
        log = tmp_path / f"log-{len(started)}"
        process = start(["serve", "--accelerator=cpu", *arguments], log)
        started.append(process)
        end = time.monotonic() + 120
        while not (found := re.search(r"http://\S+", log.read_text() if log.exists() else "")):
            assert process.is_alive(), log.read_text()
            assert time.monotonic() < end, "it did not start"
            time.sleep(0.05)
        return process, found[0]

    yield run
    for process in started:
        process.kill()
        process.join()


def post(address, data):
    with urllib.request.urlopen(urllib.request.Request(address, data, method="POST"), timeout=60) as answer:
        return answer.read()


def held():
    return sorted(path.name for path in (Path(os.environ["IMG2IMG_CACHE"]) / "serve").rglob("*") if path.name != "lock")


@pytest.mark.parametrize("sign", [signal.SIGINT, signal.SIGTERM])
def test_it_restores_until_it_is_told_to_end_and_leaves_nothing(program, tmp_path, sign):
    save_model(tmp_path / "mine.ckpt", 0.05)
    process, address = program(f"--model={tmp_path / 'mine.ckpt'}", "--max-megapixels=1")
    data = as_file(smooth())
    assert (pixels_of(post(f"{address}restore", data)) != smooth()).any()
    post(f"{address}pictures?name=a.png", data)
    assert len(held()) == 3, "the folder of the server, of the picture, and the file"
    os.kill(process.pid, sign)
    process.join(60)
    assert process.exitcode == 0
    assert held() == []


def test_it_ends_in_the_middle_of_a_picture(program, tmp_path):
    save_model(tmp_path / "mine.ckpt", 0.05)
    process, address = program(f"--model={tmp_path / 'mine.ckpt'}", "--memory=1300MB")
    added = post(f"{address}pictures?name=a.png", as_file(smooth(3000, 4000)))
    id = re.search(rb'"id":"([^"]+)"', added)[1].decode()
    post(f"{address}pictures/{id}/restore?self_ensemble=1", b"")
    state = b""
    while b'"running"' not in state:
        state = urllib.request.urlopen(f"{address}state", timeout=60).read()
    os.kill(process.pid, signal.SIGINT)
    process.join(60)
    assert process.exitcode == 0
    assert held() == []


def test_what_a_killed_one_left_is_removed_by_the_next(program, tmp_path):
    save_model(tmp_path / "mine.ckpt")
    process, address = program(f"--model={tmp_path / 'mine.ckpt'}")
    post(f"{address}pictures?name=a.png", as_file(smooth()))
    process.kill()
    process.join()
    left = held()
    assert len(left) == 3
    program(f"--model={tmp_path / 'mine.ckpt'}")
    assert not set(left) & set(held())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--host=0.0.0.0"], "also give --name"),
        (["--host=192.0.2.1"], "nothing can listen there"),
        (["--port=99999"], "--port 99999 does not exist"),
        (["--queue=0"], "the limit queue is 0"),
        (["--memory=much"], "is not a size"),
        (["--model=nothing.ckpt"], "does not exist"),
    ],
)
def test_it_says_in_one_line_why_it_cannot_start(capsys, arguments, message):
    before = held()
    with pytest.raises(SystemExit) as end:
        main(["serve", *arguments])
    assert end.value.code == 2
    said = capsys.readouterr().err
    assert message in said
    assert len(said.strip().splitlines()) == 1
    assert not set(held()) - set(before)


def test_without_its_packages_it_says_what_to_install(capsys, monkeypatch):
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "uvicorn" else find(name))
    with pytest.raises(SystemExit):
        main(["serve"])
    assert "the page needs uvicorn: pip install -e '.[serve]'" in capsys.readouterr().err


def test_the_shelf_offers_named_checkpoints_first(tmp_path):
    from img2img.serve.shelf import open_shelf
    from img2img.shipped import shipped_models

    for run in ("0", "1"):
        (tmp_path / "inpaint" / run).mkdir(parents=True)
        save_model(tmp_path / "inpaint" / run / "best.ckpt", recipe=FILLING)
    shelf = open_shelf([tmp_path / "inpaint" / run / "best.ckpt" for run in ("1", "0")])
    described = shelf.describe()
    assert [each["name"] for each in described[:2]] == ["inpaint/1/best.ckpt", "inpaint/0/best.ckpt"]
    assert [each["mask"] for each in described[:2]] == [True, True]
    assert {each["name"] for each in described[2:]} <= set(shipped_models())
    assert "denoise" in {each["name"] for each in described}
    assert shelf[None].name == "inpaint/1/best.ckpt"


def test_without_a_name_the_shelf_prefers_the_model_that_hardly_changes_a_picture_without_noise():
    from img2img.serve.shelf import open_shelf

    assert open_shelf([])[None].name == "denoise_photo"
