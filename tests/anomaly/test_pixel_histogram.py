import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from img2img.anomaly.pixel_histogram import PixelHistogram, auroc


def test_pixels_are_ranked_as_scikit_learn_ranks_them():
    draws = np.random.default_rng(0)
    normal, abnormal = draws.gamma(1, 0.001, 20_000), draws.gamma(2, 0.001, 3_000)
    counted = PixelHistogram(), PixelHistogram()
    for histogram, values in zip(counted, (normal, abnormal), strict=True):
        for part in np.array_split(values, 3):
            histogram.add(part)
    truth = np.repeat([0, 1], [len(normal), len(abnormal)])
    assert auroc(*counted) == pytest.approx(roc_auc_score(truth, np.concatenate([normal, abnormal])), abs=1e-3)
    assert (counted[0] + counted[1]).counts.sum() == 23_000
    assert counted[0].quantile(0.99) == pytest.approx(np.quantile(normal, 0.99), rel=0.01)
    assert auroc(counted[0], counted[0]) == 0.5


def test_an_empty_side_has_no_roc_curve():
    histogram = PixelHistogram()
    histogram.add(np.ones(3))
    with pytest.raises(ValueError, match="normal and abnormal"):
        auroc(histogram, PixelHistogram())


def test_a_histogram_may_reach_farther():
    values = np.random.default_rng(0).gamma(1, 100, 5_000)
    near, far = PixelHistogram(), PixelHistogram(highest=1e4)
    near.add(values), far.add(values)
    assert near.quantile(0.99) == pytest.approx(10)
    assert (far + far).quantile(0.99) == pytest.approx(np.quantile(values, 0.99), rel=0.02)
