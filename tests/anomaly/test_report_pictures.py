import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from img2img.anomaly.report_pictures import Pictures, ReportPictures
from img2img.tasks.thresholds import Threshold


def made(path: Path, pixels: np.ndarray, values: np.ndarray, images: int = 1) -> Pictures:
    Image.fromarray(pixels).save(path)
    kept = ReportPictures(images, 0.5, {"good"}, {}, {"map": Threshold(0.5, 0.99)})
    kept.add(str(path), "good", 1.0, values, None)
    assert not kept.problems
    return kept.gathered()[str(path)]


def decoded(data: bytes) -> np.ndarray:
    return np.array(Image.open(io.BytesIO(data)))


def test_a_thin_defect_of_a_large_image_shows_in_the_small_picture_and_in_the_detail(tmp_path, photo):
    large, values = np.array(Image.fromarray(photo).resize((2000, 1500))), np.zeros((1500, 2000), np.float32)
    values[200:900, 1700] = 0.9
    values[400, 1700] = 1.0
    pictures = made(tmp_path / "a.png", large, values)
    marks = decoded(pictures.whole.marks)
    assert marks.shape == (360, 480, 4)
    assert (pictures.whole.width, pictures.whole.height) == (2000, 1500)
    assert (marks[48:216, 408, 3] > 0).all(), "from top to bottom"
    assert not marks[..., 3][:, :400].any()
    detail = pictures.detail
    assert decoded(detail.photo).shape == (320, 320, 3)
    around = large[400 - 160 : 400 + 160, 1700 - 160 : 1700 + 160].astype(int)
    assert np.abs(decoded(detail.photo) - around).mean() < 4
    assert (decoded(detail.marks)[:, 160, 3] > 0).all()
    corner = np.zeros((1500, 2000), np.float32)
    corner[1499, 0] = 1
    assert decoded(made(tmp_path / "a.png", large, corner).detail.photo).shape == (320, 320, 3)


def test_pictures_are_smaller_on_a_page_of_many(tmp_path, photo):
    values = np.zeros((10, 10), np.float32)
    assert decoded(made(tmp_path / "a.png", photo, values, 400).whole.photo).shape == (320, 320, 3)
    large = np.tile(photo, (3, 3, 1))
    assert decoded(made(tmp_path / "a.png", large, values, 200).whole.photo).shape == (480, 480, 3)
    assert decoded(made(tmp_path / "a.png", large, values, 10_000).whole.photo).shape == (320, 320, 3)


@pytest.mark.parametrize("mode", ["L", "I;16", "F", "RGB"])
def test_pictures_of_every_depth_look_alike(tmp_path, photo, mode):
    gray = np.array(Image.fromarray(photo).convert("L"))
    pixels = {"L": gray, "I;16": gray.astype(np.uint16) * 257, "F": gray.astype(np.float32) / 255, "RGB": photo}[mode]
    shown = decoded(made(tmp_path / "a.tif", pixels, np.zeros((4, 4), np.float32)).whole.photo)
    assert np.abs(shown.astype(int) - (photo if mode == "RGB" else gray)).mean() < 4


def test_pictures_of_the_highest_scores_are_kept_in_any_order(tmp_path, monkeypatch):
    monkeypatch.setattr("img2img.anomaly.report_pictures.MOST", 4)
    monkeypatch.setattr("img2img.anomaly.report_pictures.MOST_MISSED", 2)
    scores = np.random.default_rng(0).permutation(40) / 40
    paths = [tmp_path / f"{score}.png" for score in scores]
    for path in paths:
        Image.new("L", (4, 4)).save(path)
    kept = ReportPictures(40, 0.5, {"good"}, {}, {})
    for path, score in zip(paths, scores, strict=True):
        kept.add(str(path), "bad" if score < 0.2 else "good", float(score), None, None)
    assert {Path(path).stem for path in kept.gathered()} == {"0.975", "0.95", "0.0", "0.025"}, "and the missed ones"
    assert all(pictures.whole.marks is None for pictures in kept.gathered().values()), "a model without maps"


def test_an_image_that_cannot_be_drawn_is_named_and_the_rest_go_on(tmp_path):
    kept = ReportPictures(2, 0.5, set(), {}, {})
    kept.add(str(tmp_path / "gone.png"), "", 1.0, None, None)
    Image.new("L", (4, 4)).save(tmp_path / "here.png")
    kept.add(str(tmp_path / "here.png"), "", 0.5, None, None)
    assert [Path(path).name for path in kept.gathered()] == ["here.png"]
    assert len(kept.problems) == 1
    assert "gone.png cannot be made" in kept.problems[0]
