"""`restore` with `-`: one image through stdin and stdout."""

from __future__ import annotations

import io
import sys

import cv2
import numpy as np
import pytest
from PIL import Image

from tests.commands.models import save_model
from tests.commands.restoring import code_of, command


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def model(tmp_path):
    return save_model(tmp_path / "model.ckpt", 0.02)


def encoded(pixels: np.ndarray, suffix: str) -> bytes:
    return cv2.imencode(suffix, pixels)[1].tobytes()


@pytest.fixture
def through(monkeypatch, capsysbinary, model):
    """Runs the command with an image on stdin; returns code, stdout and stderr."""

    def run(data: bytes, source="-", target="-", *more: str) -> tuple[int, bytes, str]:
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(data)))
        code = code_of(command(source, target, model, *more))
        said = capsysbinary.readouterr()
        return code, said.out, said.err.decode()

    return run


def test_an_image_goes_through_and_nothing_else_is_on_stdout(through, tmp_path, photo):
    deep = photo[:130, :120].astype(np.uint16) * 257
    for suffix, pixels in ((".png", deep), (".tif", deep), (".jpg", photo), (".bmp", photo[:20, :20])):
        data = encoded(pixels, suffix)
        (tmp_path / f"file{suffix}").write_bytes(data)
        code, out, err = through(data)
        assert code == 0, err
        assert through(b"", str(tmp_path / f"file{suffix}"), str(tmp_path / f"out{suffix}"))[0] == 0
        assert out == (tmp_path / f"out{suffix}").read_bytes(), "as from a file, in the input's format and depth"
        assert through(b"", str(tmp_path / f"file{suffix}"), "-")[1] == out


def test_the_format_can_be_chosen_and_the_output_can_be_a_file(through, tmp_path, photo):
    data = encoded(photo[:40, :50], ".png")
    code, out, err = through(data, "-", "-", "--format", "webp", "--strength", "0.5")
    assert (code, Image.open(io.BytesIO(out)).format) == (0, "WEBP"), err
    code, out, _ = through(data, "-", str(tmp_path / "out.png"))
    assert (code, out) == (0, b"")
    assert Image.open(tmp_path / "out.png").size == (50, 40)
    code, out, err = through(data, "-", str(tmp_path / "out.png"))
    assert (code, out) == (2, b"")
    assert "out.png exists: give --skip_existing" in err


def test_what_is_no_image_ends_in_one_line_and_nothing_on_stdout(through, tmp_path, photo):
    whole = encoded(photo, ".png")
    for data, said in (
        (b"", "error: stdin cannot be read: the file is empty"),
        (b"GIF89a", "error: stdin cannot be read: not a JPEG, PNG"),
        (whole[:5000], "cannot read stdin.png: the file is truncated"),
    ):
        code, out, err = through(data)
        assert (code, out) == (2, b"")
        assert said in err
        assert "/img2img-" not in err, "nobody knows the temporary file"
        assert err.strip().count("\n") == 0
    (tmp_path / "in").mkdir()
    for source, more in ((str(tmp_path / "in"), ()), ("-", ("--watch",)), ("-", ("--dry_run",))):
        assert through(whole, source, "-", *more)[0] == 2


def test_a_terminal_is_no_place_for_an_image(monkeypatch, model, tmp_path, photo, capsys):
    Image.fromarray(photo[:9, :9]).save(tmp_path / "a.png")
    monkeypatch.setattr(sys, "stdin", Terminal())
    assert code_of(command("-", tmp_path / "b.png", model)) == 2
    assert "stdin is a terminal: let an image come in, such as < photo.png" in capsys.readouterr().err
    monkeypatch.setattr(sys, "stdout", Terminal())
    assert code_of(command(tmp_path / "a.png", "-", model)) == 2
    assert "stdout is a terminal: redirect it" in capsys.readouterr().err
