import pytest
import torch

from img2img.networks import ConvAutoencoder, DenseAutoencoder, LinearAutoencoder
from img2img.tasks.pca import fit_principal


@pytest.mark.parametrize("size", [(64, 64), (33, 47), (1, 2), (112, 92)])
@pytest.mark.parametrize("network", [ConvAutoencoder, DenseAutoencoder])
def test_any_size_becomes_a_vector_and_comes_back(network, size):
    narrow = {"channels": [4, 8]} if network is ConvAutoencoder else {"hidden": [8]}
    model = network(size, 3, latent_dim=5, per_latent=2, per_value=2, **narrow)
    image = torch.rand(2, 3, *size)
    assert model.encode(image).shape == (2, 10)
    assert model.decode(torch.randn(2, 5)).shape == (2, 6, *size)


def test_a_large_gray_image_becomes_ten_numbers():
    model = ConvAutoencoder((320, 320), latent_dim=10, channels=[8, 8, 8, 8])
    image = torch.rand(1, 1, 320, 320)
    assert model.encode(image).shape == (1, 10)
    assert model(image).shape == image.shape


def test_everything_passes_the_vector():
    torch.manual_seed(0)
    model = ConvAutoencoder((16, 16), channels=[8, 8], latent_dim=3)
    torch.nn.init.zeros_(model.to_latent.weight)
    assert torch.equal(model(torch.rand(1, 1, 16, 16)), model(torch.rand(1, 1, 16, 16)))


def test_standardised_images_differ_in_two_latents_under_another_light():
    torch.manual_seed(0)
    model = ConvAutoencoder((32, 32), channels=[8, 8], latent_dim=8, standardise=True)
    image = torch.rand(1, 1, 32, 32)
    dim, bright = model.encode(0.5 * image + 0.1), model.encode(image)
    assert torch.allclose(dim[:, :6], bright[:, :6], atol=1e-5)
    assert (bright[0, -2] - dim[0, -2]).item() == pytest.approx(0.5 * float(image.mean()) - 0.1, abs=1e-5)
    drawn_dim, drawn = model(0.5 * image + 0.1), model(image)
    assert torch.allclose((drawn_dim - 0.1) / 0.5, drawn, atol=1e-5)


def test_the_basis_of_a_linear_autoencoder_spans_what_it_draws():
    model = LinearAutoencoder((4, 5), latent_dim=3)
    basis = model.principal_basis()
    assert torch.allclose(basis.T @ basis, torch.eye(3), atol=1e-6)
    drawn = (model.decode(torch.randn(4, 3)) - model.decode(torch.zeros(1, 3))).flatten(1)
    assert torch.allclose(drawn @ basis @ basis.T, drawn, atol=1e-5)


@pytest.mark.parametrize("wrong", [{"latent_dim": 0}, {"image_size": (8,)}, {"channels": []}])
def test_numbers_that_make_no_network(wrong):
    with pytest.raises(ValueError, match=r"image_size|channels"):
        ConvAutoencoder(**wrong)


@pytest.mark.parametrize(
    ("network", "narrow"), [(ConvAutoencoder, {"channels": [4]}), (DenseAutoencoder, {"hidden": [4]})]
)
def test_with_a_linear_part_training_begins_where_pca_ends(network, narrow):
    torch.manual_seed(0)
    data = torch.rand(40, 1, 12, 10)
    mean = data.flatten(1).mean(0)
    _, spread, axes = torch.linalg.svd(data.flatten(1) - mean, full_matrices=False)
    model = network((12, 10), latent_dim=6, linear=True, per_latent=2, per_value=2, **narrow)
    model.begin_at(mean, axes[:6], spread[:6] / 39**0.5)
    linear = (data.flatten(1) - mean) @ axes[:6].T @ axes[:6] + mean
    code = model.linear.encode(data)
    assert torch.allclose(code.std(0), torch.ones(6), atol=1e-3)
    assert torch.allclose(model.decode(code)[:, :1].flatten(1), linear, atol=1e-4)
    assert model.encode(data).shape == (40, 12)
    assert not any(parameter.requires_grad for parameter in model.linear.parameters())


def test_an_axis_along_which_no_image_varies_sends_no_image_to_infinity():
    torch.manual_seed(0)
    few, other = torch.rand(3, 1, 8, 8), torch.rand(20, 1, 8, 8)
    fit = fit_principal([few.numpy()], 6)
    model = ConvAutoencoder((8, 8), channels=[4], latent_dim=6, linear=True)
    model.begin_at(fit.mean, fit.axes, fit.variances.sqrt())
    assert model.encode(other).abs().max() < 20
    assert torch.allclose(model.decode(model.encode(few)), few, atol=1e-4)
    (only,) = few[:1].split(1)
    alone = fit_principal([only.numpy()], 6)
    model.begin_at(alone.mean, alone.axes, alone.variances.sqrt())
    assert torch.allclose(model.decode(model.encode(other)), only.expand(20, -1, -1, -1), atol=1e-5)
