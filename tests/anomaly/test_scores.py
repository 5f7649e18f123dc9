import pytest
import torch
from torch import Tensor

from img2img.anomaly.scores import View, error, local_error, rapp_sap, scores_of, top_error


def view(image: Tensor, reconstruction: Tensor, **rest: object) -> View:
    return View(image, reconstruction, torch.zeros(len(image), 2), **rest)  # type: ignore[arg-type]


def test_errors_of_a_square_that_is_not_reconstructed():
    image, gray = torch.full((2, 3, 48, 48), 0.5), torch.full((2, 3, 48, 48), 0.5)
    image[1, :, 20:25, 30:35] = 1.0
    seen = view(image, gray)
    assert error(seen).tolist() == pytest.approx([0, 25 * 0.25 / 48**2])
    assert top_error(seen).tolist() == pytest.approx([0, 0.25])  # 25 pixels are more than a hundredth of 2304
    assert local_error(seen) is None  # the errors on training images are not known
    seen = view(image, gray, training_error=torch.full((48, 48), 0.05))
    assert local_error(seen).tolist() == pytest.approx([0, 5])  # windows of 5×5 pixels: one lies on the square
    row, column = divmod(int(seen.map[1].argmax()), 48)
    assert (row, column) == (22, 32)
    assert seen.map.shape == (2, 48, 48)
    assert not seen.map[1, :15].any()


def test_a_small_defect_weighs_more_in_its_window_than_a_faint_error_everywhere():
    torch.manual_seed(0)
    image, black = torch.zeros(2, 1, 48, 48), torch.zeros(2, 1, 48, 48)
    image[0] = 0.1  # everywhere
    image[1, 0, 8:12, 8:12] = 0.6
    seen = view(image, black, training_error=torch.full((48, 48), 0.01))
    assert error(seen)[0] > error(seen)[1]
    assert local_error(seen)[0] < local_error(seen)[1]


def test_an_error_counts_for_less_where_training_images_have_it_too():
    image, typical = torch.zeros(2, 1, 48, 48), torch.zeros(48, 48)
    black = torch.zeros_like(image)
    image[0, 0, 4:16, 4:16] = 0.5
    image[1, 0, 30:42, 30:42] = 0.4
    typical[:24] = 0.1
    typical[24:] = 0.02
    found = local_error(view(image, black, training_error=typical))
    assert found.tolist() == pytest.approx([0.25 / 0.1, 0.16 / 0.02])
    typical[24:] = 0  # counts as a tenth of the mean
    assert local_error(view(image, black, training_error=typical))[1].item() == pytest.approx(0.16 / 0.005, rel=0.02)


def test_maps_of_tiny_images_are_the_errors():
    image = torch.rand(1, 1, 2, 1)
    seen = view(image, torch.zeros_like(image), training_error=torch.ones(2, 1))
    assert torch.allclose(seen.map, image[:, 0] ** 2)
    assert local_error(seen).item() == pytest.approx(float((image**2).max()))


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


def test_the_contrast_is_relative_to_the_level_of_the_image():
    image, black = torch.full((3, 1, 48, 48), 0.1), torch.zeros(3, 1, 48, 48)
    image[1] = 0.4
    image[2] = 0.001  # a quarter of a level of 8 bits
    image[:, :, 20:30, 20:30] *= 3
    seen = view(image, black)
    assert torch.allclose(seen.contrast[0], seen.contrast[1])
    assert torch.allclose(seen.contrast[:2].mean((1, 2)), torch.ones(2))
    assert seen.contrast[0, 25, 25] > 4 * seen.contrast[0, 5, 5]
    assert seen.contrast[2].mean() < 0.5, "what no 8-bit file can show does not stand out"
