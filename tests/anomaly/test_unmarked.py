"""Overlays mark what held-out normal images do not have."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import img2img
from img2img.anomaly.calibration import calibrate
from img2img.data import CorruptedPairs
from img2img.tasks import AnomalySegmentation
from tests.anomaly.calibrated import CPU
from tests.anomaly.test_maps import coloured
from tests.tasks.test_anomaly_segmentation import Bright


@pytest.fixture
def root(tmp_path) -> Path:
    """train/ of two dark images and val/ of twelve; image n of val/ has a spot as bright as n, and one white pixel."""
    draw = np.random.default_rng(0)
    for split, count in (("train", 2), ("val", 12)):
        (tmp_path / "good" / split).mkdir(parents=True)
        for i in range(count):
            pixels = draw.integers(60, 70, (48, 64), np.uint8)
            if split == "val":
                pixels[10:26, 20:36], pixels[40, 50] = 114 + 2 * i, 255
            Image.fromarray(pixels).save(tmp_path / "good" / split / f"{i:02}.png")
    return tmp_path / "good"


def pointing() -> AnomalySegmentation:
    return AnomalySegmentation(Bright(), gain=1, level=0, window=21).eval()


def overlays_of(task: AnomalySegmentation, folder: Path, name: str) -> list[np.ndarray]:
    img2img.score(folder, None, task, maps=name, accelerator="cpu", devices=1)
    return [coloured(str(path)) for path in sorted(Path(name).glob("*.overlay.png"))]


def test_half_of_the_held_out_images_have_no_red_and_no_single_pixel_decides(root):
    task = pointing()
    calibrate(task, CorruptedPairs(str(root)), CPU)
    marks = task.thresholds.pixels["marks"]
    assert marks.quantile == 0.5
    found = overlays_of(task, root / "val", "maps")
    assert [shown.any() for shown in found] == [False] * 6 + [True] * 6, "the brighter spots"
    assert all(shown[14:22, 24:32].all() for shown in found[6:])
    assert not any(shown[34:46, 44:60].any() for shown in found), "white pixels"


def test_the_smoothed_map_is_only_that_of_overlays(root):
    task, image = pointing(), torch.full((1, 3, 40, 50), 0.25)
    image[0, :, 20, 25] = 1
    found = task.score_batch({"image": image})
    assert float(found.maps[""][0, 20, 25]) == pytest.approx(1, abs=1e-4)
    assert float(found.marks[0, 20, 25]) == pytest.approx(1 / 121, abs=1e-3), "a mean over 11×11 pixels"


def test_a_checkpoint_of_before_marks_what_it_did(root):
    task = pointing()
    calibrate(task, CorruptedPairs(str(root)), CPU)
    plain = task.thresholds.plain()
    del plain["marks"]
    task.thresholds = type(task.thresholds).from_plain(plain)
    found = overlays_of(task, root / "val", "maps")
    assert all(shown[40, 50] for shown in found), "the map itself, by the threshold of pixels"
    assert "99% of the pixels of held-out normal images" in Path("maps/README.txt").read_text()


def test_a_network_that_finds_nothing_leaves_it_to_the_second_look(root, monkeypatch):
    task = pointing()
    monkeypatch.setattr(Bright, "forward", lambda self, x: torch.cat([x, torch.full_like(x[:, :1], -1e4)], 1))
    calibrate(task, CorruptedPairs(str(root)), CPU)
    assert task.thresholds.pixels["marks"].value > 0
    found = overlays_of(task, root / "val", "maps")
    assert [shown.any() for shown in found] == [False] * 6 + [True] * 6, "what the images as a whole show"
