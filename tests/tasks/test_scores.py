import numpy as np
import pytest
import torch
from scipy.spatial.distance import mahalanobis as scipys
from sklearn.metrics import roc_auc_score
from torch import Tensor

from img2img.tasks.cloud import Cloud, moments
from img2img.tasks.pixel_histogram import PixelHistogram, auroc
from img2img.tasks.scores import View, error, local_error, mahalanobis, neighbour, rapp_sap, scores_of, top_error


def view(image: Tensor, drawn: Tensor, **rest: object) -> View:
    return View(image, drawn, torch.zeros(len(image), 2), **rest)  # type: ignore[arg-type]


def test_errors_of_a_square_that_is_not_drawn():
    image, drawn = torch.full((2, 3, 48, 48), 0.5), torch.full((2, 3, 48, 48), 0.5)
    image[1, :, 20:25, 30:35] = 1.0
    seen = view(image, drawn)
    assert error(seen).tolist() == pytest.approx([0, 25 * 0.25 / 48**2])
    assert top_error(seen).tolist() == pytest.approx([0, 0.25])  # 25 pixels are more than a hundredth of 2304
    assert local_error(seen) is None  # nobody knows what is usual
    seen = view(image, drawn, usual=torch.full((48, 48), 0.05))
    assert local_error(seen).tolist() == pytest.approx([0, 5])  # windows of 5×5 pixels: one lies on the square
    row, column = divmod(int(seen.map[1].argmax()), 48)
    assert (row, column) == (22, 32)
    assert seen.map.shape == (2, 48, 48)
    assert not seen.map[1, :15].any()


def test_a_small_defect_weighs_more_in_its_window_than_a_faint_error_everywhere():
    torch.manual_seed(0)
    image, drawn = torch.zeros(2, 1, 48, 48), torch.zeros(2, 1, 48, 48)
    image[0] = 0.1  # everywhere
    image[1, 0, 8:12, 8:12] = 0.6
    seen = view(image, drawn, usual=torch.full((48, 48), 0.01))
    assert error(seen)[0] > error(seen)[1]
    assert local_error(seen)[0] < local_error(seen)[1]


def test_an_error_counts_for_less_where_training_images_have_it_too():
    image, drawn, usual = torch.zeros(2, 1, 48, 48), torch.zeros(2, 1, 48, 48), torch.zeros(48, 48)
    image[0, 0, 4:16, 4:16] = 0.5
    image[1, 0, 30:42, 30:42] = 0.4
    usual[:24] = 0.1
    usual[24:] = 0.02
    found = local_error(view(image, drawn, usual=usual))
    assert found.tolist() == pytest.approx([0.25 / 0.1, 0.16 / 0.02])
    usual[24:] = 0  # is then taken for a tenth of the mean
    assert local_error(view(image, drawn, usual=usual))[1].item() == pytest.approx(0.16 / 0.005, rel=0.02)


def test_maps_of_tiny_images_are_the_errors():
    image = torch.rand(1, 1, 2, 1)
    seen = view(image, torch.zeros_like(image), usual=torch.ones(2, 1))
    assert torch.allclose(seen.map, image[:, 0] ** 2)
    assert local_error(seen).item() == pytest.approx(float((image**2).max()))


@pytest.fixture
def codes() -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(50, 3, generator=generator) @ torch.tensor([[3.0, 0, 0], [1, 0.1, 0], [0, 0, 0.5]]) + 2


def test_mahalanobis_is_scipys_with_a_ridge(codes):
    known = moments(codes)
    covariance = known["covariance"].double().numpy()
    assert covariance == pytest.approx(np.cov(codes.double().numpy().T), rel=1e-5)
    ridge = 0.01 * np.trace(covariance) / 3 * np.eye(3)
    inverse = np.linalg.inv(covariance + ridge)
    seen = View(torch.zeros(5, 1, 1, 1), torch.zeros(5, 1, 1, 1), codes[:5] + 1, Cloud(known))
    expected = [scipys(code, known["mean"].double().numpy(), inverse) for code in (codes[:5] + 1).double().numpy()]
    found = mahalanobis(seen)
    assert found is not None
    assert found.tolist() == pytest.approx(expected, rel=1e-6)


def test_a_neighbour_is_near_in_units_of_the_spread(codes):
    cloud = Cloud(moments(codes) | {"codes": codes})
    blank = torch.zeros(3, 1, 1, 1)
    wide = torch.tensor([0.0, 0, 0]) + codes[7]
    along, across = wide + torch.tensor([0.3, 0, 0]), wide + torch.tensor([0, 0.3, 0])
    found = neighbour(View(blank, blank, torch.stack([wide, along, across]), cloud))
    assert found is not None
    assert found[0] < 1e-12  # whitened in float64, which some processors round by another order of sums
    assert found[2] > 2 * found[1]
    whitened = cloud.whiten(torch.stack([across]))[:, None] - cloud.codes
    assert found[2].item() == pytest.approx(float(whitened.norm(dim=-1).min()))


def test_codes_that_never_vary_have_finite_distances():
    codes = torch.ones(4, 2)
    cloud = Cloud(moments(codes) | {"codes": codes}, alike=True)
    assert torch.isfinite(cloud.from_nearest(torch.tensor([[1.0, 2.0]]))).all()
    assert torch.isfinite(cloud.from_mean(torch.tensor([[1.0, 2.0]]))).all()


def test_layers_count_by_their_mean():
    image = torch.zeros(2, 1, 4, 4)
    layers = [torch.tensor([[1.0, 3.0], [0, 0]]), torch.tensor([[5.0], [1.0]])]
    found = rapp_sap(view(image, image, layers=layers))
    assert found is not None
    assert found.tolist() == [7, 1]


def test_what_a_view_lacks_has_no_score():
    image = torch.zeros(1, 1, 4, 4)
    names = set(scores_of({"": view(image, image), "pca_": view(image, image, nats=torch.ones(1))}))
    plain = {"error", "top_error"}
    assert names == plain | {f"pca_{name}" for name in plain} | {"pca_neg_elbo"}


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
