import numpy as np
import pytest
from sklearn.metrics import average_precision_score, roc_auc_score

from img2img.anomaly.pixel_histogram import PixelHistogram, aupro, auroc, average_precision


def counted(values: np.ndarray, weights: np.ndarray | None = None) -> PixelHistogram:
    histogram = PixelHistogram()
    histogram.add(values, weights)
    return histogram


@pytest.mark.parametrize("scale", [0.001, 0.1])
def test_pixels_are_ranked_as_scikit_learn_ranks_them(scale):
    draws = np.random.default_rng(0)
    normal, abnormal = draws.gamma(1, scale, 20_000), draws.gamma(2, scale, 3_000)
    both = PixelHistogram(), PixelHistogram()
    for histogram, values in zip(both, (normal, abnormal), strict=True):
        for part in np.array_split(values, 3):
            histogram.add(part)
    truth, values = np.repeat([0, 1], [len(normal), len(abnormal)]), np.concatenate([normal, abnormal])
    assert auroc(*both) == pytest.approx(roc_auc_score(truth, values), abs=1e-4)
    assert average_precision(*both) == pytest.approx(average_precision_score(truth, values), abs=1e-3)
    assert (both[0] + both[1]).counts.sum() == 23_000
    limit = both[0].quantile(0.99)
    assert limit == pytest.approx(np.quantile(normal, 0.99), rel=0.01)
    assert [histogram.above(limit) for histogram in both] == [np.sum(normal > limit), np.sum(abnormal > limit)]
    assert auroc(both[0], both[0]) == 0.5


def test_aupro_is_the_mean_overlap_up_to_three_tenths_of_false_positives():
    draws = np.random.default_rng(1)
    normal = draws.gamma(1, 0.1, 5_000)
    regions = [draws.gamma(shape, 0.1, size) for shape, size in ((2, 700), (5, 40), (1.5, 3))]
    rates, overlaps = [0.0], [0.0]
    for limit in np.sort(np.concatenate([normal, *regions]))[::-1]:  # every threshold
        rates.append(np.mean(normal >= limit))
        overlaps.append(np.mean([np.mean(values >= limit) for values in regions]))
    grid = np.linspace(0, 0.3, 200_001)
    expected = np.interp(grid, rates, overlaps).mean()
    weights = np.repeat([1 / len(values) for values in regions], [len(values) for values in regions])
    found = aupro(counted(normal), counted(np.concatenate(regions), weights))
    assert found == pytest.approx(expected, abs=1e-3)
    assert aupro(counted(normal), counted(np.full(9, 9.0), np.full(9, 1 / 9))) == pytest.approx(1)
    assert aupro(counted(normal), counted(np.full(9, 1e-6), np.full(9, 1 / 9))) == pytest.approx(0, abs=1e-3)
    assert aupro(counted(np.ones(4)), counted(np.ones(2))) == pytest.approx(0.15), "equal values: a straight line"


def test_an_empty_side_has_no_roc_curve():
    histogram = PixelHistogram()
    histogram.add(np.ones(3))
    with pytest.raises(ValueError, match="normal and abnormal"):
        auroc(histogram, PixelHistogram())
    with pytest.raises(ValueError, match="abnormal values"):
        average_precision(histogram, PixelHistogram())
    with pytest.raises(ValueError, match="normal pixels and regions"):
        aupro(histogram, PixelHistogram())


def test_a_histogram_may_reach_farther():
    values = np.random.default_rng(0).gamma(1, 100, 5_000)
    near, far = PixelHistogram(), PixelHistogram(highest=1e4)
    near.add(values), far.add(values)
    assert near.quantile(0.99) == pytest.approx(10)
    assert (far + far).quantile(0.99) == pytest.approx(np.quantile(values, 0.99), rel=0.02)
