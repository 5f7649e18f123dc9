"""`img2img export`: what it prints, and its one-line errors."""

from __future__ import annotations

from pathlib import Path

import pytest

from img2img.cli import main
from tests.commands.models import save_model


def test_it_says_how_far_the_file_is_from_torch_and_how_to_tile(capsys):
    main(["export", str(save_model(Path("model.ckpt"), 0.1)), "model.onnx"])
    first, second = capsys.readouterr().out.splitlines()
    assert first.startswith("model.onnx: 0.0 MB in float32; largest difference to torch ")
    assert first.endswith("in tiles (20 images; at most 1e-04 is allowed)")
    assert second == "Tiles start at multiples of 4 and have a halo of 23 pixels."


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["model.ckpt", "model.h5"], "the output model.h5 must end in .onnx, .pt2, .xml: that says what kind of file"),
        (["model.ckpt", "there.onnx"], "there.onnx is there already; give --overwrite to replace it, or another name"),
        (["nothing.ckpt", "model.onnx"], "model nothing.ckpt does not exist"),
    ],
)
def test_errors_are_one_line(words, said, capsys):
    save_model(Path("model.ckpt"))
    Path("there.onnx").write_bytes(b"mine")
    with pytest.raises(SystemExit) as stop:
        main(["export", *words])
    assert stop.value.code == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1
    assert said in lines[0]
    assert Path("there.onnx").read_bytes() == b"mine"
