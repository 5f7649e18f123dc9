"""The scripts of `examples/` print their figures and draw their pictures."""

from __future__ import annotations

import re
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from tests.pages import ROOT

KINDS = ("unseen", "dark", "bright")


@pytest.mark.slow
def test_what_is_an_autoencoder_prints_figures_and_draws_pictures(tmp_path):
    draws = np.random.default_rng(0)
    for level, kind in zip((128, 40, 200), KINDS, strict=True):
        (tmp_path / kind).mkdir()
        for i in range(10):
            pixels = draws.normal(level, 20, (32, 24, 3)).clip(0, 255).astype(np.uint8)
            Image.fromarray(pixels).resize((192, 256)).save(tmp_path / kind / f"{i}.png")
    places = [str(tmp_path / name) for name in ("pictures", *KINDS)]
    command = [sys.executable, "-m", "examples.what_is_an_autoencoder", *places, "--steps=1"]
    printed = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout
    assert re.search(r"102,400 pixels, 10 numbers: error 0\.\d+, PCA 0\.\d+", printed)
    (accuracy,) = re.findall(r"dark or bright, told apart by a line in the latents: (\S+)", printed)
    assert float(accuracy) > 0.7  # chance is 0.5; nine of the ten latents hold noise, as large as the brightness
    before, after = map(float, re.findall(r"denoise, sigma 25: (\S+) dB before, (\S+) dB after", printed)[0])
    assert after > before + 5
    drawn = {path.stem for path in (tmp_path / "pictures").iterdir()}
    assert drawn == {"direction", "samples", "way", "denoised", "coloured"}


def test_the_autoencoder_example_is_short():
    lines = (ROOT / "examples" / "what_is_an_autoencoder.py").read_text(encoding="utf-8").splitlines()
    assert len(lines) <= 120
