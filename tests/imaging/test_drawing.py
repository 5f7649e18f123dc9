"""Text in pictures."""

from __future__ import annotations

import pytest

from img2img.imaging.drawing import PAPER, ROW_GAP, wrap, write_line

LONG = "CameraNoise shot 0.0115 luma_radius 0.984 chroma_radius 6.64 read 0.000175"


@pytest.mark.parametrize("width", [210, 402])
def test_wrapped_text_holds_every_word_and_ends_before_the_edge(width):
    lines = wrap(LONG, width)
    assert " ".join(line.strip() for line in lines) == LONG
    assert (write_line([(0, "\n".join(lines))], width)[:, -ROW_GAP:] == PAPER).all()
    assert len(lines) > 1
    assert (write_line([(0, LONG)], width)[:, -ROW_GAP:] != PAPER).any()  # in one line it is cut off


def test_short_text_stays_one_line():
    assert wrap("Clip", 210) == ["Clip"]
