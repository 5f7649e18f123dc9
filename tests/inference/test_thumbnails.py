"""Pictures for the page of a report."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from img2img.inference.jobs import list_jobs
from img2img.inference.report_page import picture
from img2img.inference.thumbnails import DETAIL, Thumbnails, most_changed, thumbnail_file


@pytest.mark.parametrize(("top", "left"), [(0, 0), (600, 1040), (960, 1360)])
def test_the_detail_lies_where_the_images_differ_most(top, left):
    before = np.full((800, 1000, 3), 90, np.uint8)
    after = before.copy()
    half = DETAIL // 2
    after[top // 2 : top // 2 + half, left // 2 : left // 2 + half] += 40
    after[700:, :60] += 5
    found = most_changed(picture(before), picture(after), (1600, 2000))
    assert abs(found[0] - top) <= 8
    assert abs(found[1] - left) <= 8


def test_large_images_get_a_detail_at_full_size_and_small_ones_none(tmp_path, photo):
    (tmp_path / "in").mkdir()
    (tmp_path / "out").mkdir()
    large = np.tile(photo, (3, 3, 1))
    for name, pixels in (("large.png", large), ("small.png", photo)):
        Image.fromarray(pixels).save(tmp_path / "in" / name)
        Image.fromarray(pixels // 2).save(tmp_path / "out" / name)
    hidden = tmp_path / "hidden"
    hidden.mkdir()
    make = Thumbnails(hidden, 2)
    for job in list_jobs(tmp_path / "in", tmp_path / "out"):
        assert make(job) == {}
    sizes = {}
    for name in ("large.png", "small.png"):
        for which in ("before", "after", "before_detail", "after_detail"):
            file = thumbnail_file(hidden, name, which)
            sizes[name, which] = Image.open(file).size if file.exists() else None
    assert sizes["large.png", "before_detail"] == sizes["large.png", "after_detail"] == (DETAIL, DETAIL)
    assert sizes["large.png", "before"] == (640, 640)
    assert sizes["small.png", "before"] == (320, 320)
    assert sizes["small.png", "before_detail"] is None
    many = Thumbnails(hidden, 301)
    for job in list_jobs(tmp_path / "in", tmp_path / "out"):
        many(job)
    assert not thumbnail_file(hidden, "large.png", "before_detail").exists(), "pages of many images hold none"
