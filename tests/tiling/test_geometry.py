import numpy as np
import pytest

from img2img.tiling.geometry import Cost, Cut, Span, cheapest_tiling, is_blended, tiling_by_side, weights

CUTS = [Cut(0), Cut(7, 4), Cut(91, 8), Cut(30, 1), Cut(16, blend=True)]


@pytest.mark.parametrize("cut", CUTS)
@pytest.mark.parametrize("length", [1, 5, 64, 100, 1001])
@pytest.mark.parametrize("parts", [1, 2, 3, 7])
def test_every_pixel_is_kept_once_and_sees_its_halo(cut, length, parts):
    spans = cut.spans(length, parts)
    total = np.zeros(length)
    for number, span in enumerate(spans):
        assert span.start % cut.stride == 0
        assert span.start >= 0
        assert span.stop <= length
        if not cut.blend:
            assert span.start <= max(0, span.first - cut.halo)
            assert span.stop >= min(length, span.last + cut.halo)
        weight = weights(spans, number)
        total[span.first : span.last] += 1 if weight is None else weight
    np.testing.assert_allclose(total, 1, atol=1e-6)


def test_what_is_blended_fades_and_what_is_exact_does_not():
    exact, blended = (tiling_by_side(100, 100, cut, 40) for cut in (Cut(8, 4), Cut(8, blend=True)))
    assert not is_blended(exact)
    assert is_blended(blended)
    weight = weights(blended.rows, 0)
    assert weight is not None
    assert weight[0] == 1
    assert weight[-1] < 0.1
    assert np.all(np.diff(weight) <= 0)


def test_a_small_image_is_one_tile_and_a_large_one_fits_the_memory():
    cost, cut = Cost(tile=200, row=20), Cut(91, 8)
    assert len(list(cheapest_tiling(480, 640, cut, cost, 1e9))) == 1
    tiling = cheapest_tiling(18_000, 24_000, cut, cost, 1e9)
    assert cost.of(tiling, 24_000) <= 1e9
    assert tiling.pixels < 1.35 * 18_000 * 24_000  # about a third is seen twice
    larger = cheapest_tiling(18_000, 24_000, cut, cost, 4e9)
    assert larger.pixels < tiling.pixels


def test_tiles_that_fit_no_memory_are_the_least_there_are():
    cost, cut = Cost(tile=200, row=20), Cut(91, 8)
    least = cheapest_tiling(4000, 4000, cut, cost, 0)
    assert cost.of(least, 4000) < cost.of(cheapest_tiling(4000, 4000, cut, cost, 5e8), 4000)


def test_a_side_by_hand_is_what_is_kept():
    tiling = tiling_by_side(100, 50, Cut(10, 8), 32)
    assert [span.last - span.first for span in tiling.rows] == [32, 32, 32, 4]
    assert tiling.columns[0] == Span(0, 48, 0, 32)
    assert len(tiling_by_side(100, 50, Cut(10, 8), 1).rows) == 13  # never less than the stride
