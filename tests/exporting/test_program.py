"""The program of docs/export.md, which knows nothing of img2img, restores as img2img does."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import img2img
from img2img.exporting.contract import read_contract
from img2img.exporting.sessions import open_session
from tests.exporting.models import colouriser, denoiser
from tests.pages import ROOT, blocks


@pytest.fixture
def program() -> Path:
    shown = [block for block in blocks(ROOT / "docs" / "export.md") if block.file == "restore_tiles.py"]
    assert len(shown) == 1
    assert len(shown[0].text.splitlines()) <= 30
    assert "img2img." not in shown[0].text
    assert "import img2img" not in shown[0].text
    Path("restore_tiles.py").write_text(shown[0].text)
    return Path("restore_tiles.py")


@pytest.mark.parametrize("model", [denoiser, colouriser])
def test_the_program_tiles_exactly(program, photo, model):
    task = model()
    seen = photo[:300, :317] if task.in_channels == 3 else photo[:300, :317, 1]
    Image.fromarray(np.repeat(seen, 2, 1)).save("in.png")  # 300×634: two tiles by three
    img2img.export(task, "model.onnx")
    words = [sys.executable, "-I", str(program), "model.onnx", "in.png", "out.png"]
    subprocess.run(words, check=True)
    found = np.asarray(Image.open("out.png")).astype(int)
    expected = task.restore(np.asarray(Image.open("in.png"))).astype(int)
    assert found.shape == expected.shape
    assert np.abs(found - expected).max() <= 1
    assert np.mean(found == expected) > 0.999
    assert np.abs(found - np.asarray(Image.open("in.png").convert("RGB")).astype(int)).max() > 20  # it did something


def test_the_table_of_the_page_is_the_contract():
    img2img.export(denoiser(), "a.onnx")
    contract = open_session(Path("a.onnx"), 1)[1]
    page = (ROOT / "docs" / "export.md").read_text(encoding="utf-8")
    table = page.split("## The contract")[1].split("\n\n")
    named = {word.strip("` ") for line in table[2].splitlines()[2:] for word in line.split("|")[1].split(",")}
    import json

    assert named == set(json.loads(contract.to_json()))
    assert read_contract(contract.to_json(), "a.onnx") == contract
