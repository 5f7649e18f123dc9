from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.spatial.distance import mahalanobis as scipys
from torch import Tensor

from img2img.anomaly.gaussian import GaussianFit, moments
from img2img.anomaly.scores import View, mahalanobis, neighbour


@pytest.fixture
def codes() -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(50, 3, generator=generator) @ torch.tensor([[3.0, 0, 0], [1, 0.1, 0], [0, 0, 0.5]]) + 2


def test_mahalanobis_is_scipys_with_a_ridge(codes):
    known = moments(codes)
    covariance = known.covariance.double().numpy()
    assert covariance == pytest.approx(np.cov(codes.double().numpy().T), rel=1e-5)
    ridge = 0.01 * np.trace(covariance) / 3 * np.eye(3)
    inverse = np.linalg.inv(covariance + ridge)
    seen = View(torch.zeros(5, 1, 1, 1), torch.zeros(5, 1, 1, 1), codes[:5] + 1, GaussianFit(known))
    expected = [scipys(code, known.mean.double().numpy(), inverse) for code in (codes[:5] + 1).double().numpy()]
    found = mahalanobis(seen)
    assert found is not None
    assert found.tolist() == pytest.approx(expected, rel=1e-6)


def test_a_neighbour_is_near_in_units_of_the_spread(codes):
    fit = GaussianFit(replace(moments(codes), codes=codes))
    blank = torch.zeros(3, 1, 1, 1)
    wide = torch.tensor([0.0, 0, 0]) + codes[7]
    along, across = wide + torch.tensor([0.3, 0, 0]), wide + torch.tensor([0, 0.3, 0])
    found = neighbour(View(blank, blank, torch.stack([wide, along, across]), fit))
    assert found is not None
    assert found[0] < 1e-12  # whitened in float64, which some processors round by another order of sums
    assert found[2] > 2 * found[1]
    whitened = fit.whiten(torch.stack([across]))[:, None] - fit.points
    assert found[2].item() == pytest.approx(float(whitened.norm(dim=-1).min()))


def test_codes_that_never_vary_have_finite_distances():
    codes = torch.ones(4, 2)
    fit = GaussianFit(replace(moments(codes), codes=codes), standardise=True)
    assert torch.isfinite(fit.from_nearest(torch.tensor([[1.0, 2.0]]))).all()
    assert torch.isfinite(fit.from_mean(torch.tensor([[1.0, 2.0]]))).all()
