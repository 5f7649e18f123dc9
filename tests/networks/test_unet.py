import pytest
import torch
from torch import nn

from img2img.networks import RestorationUNet


def random_weights(network: nn.Module, low: float = -0.1) -> nn.Module:
    for parameter in network.parameters():
        nn.init.uniform_(parameter, low, 0.1)
    return network


@pytest.mark.parametrize(("height", "width"), [(1, 1), (7, 5), (33, 1000), (64, 48)])
def test_any_size_goes_in_and_comes_out(height, width):
    network = random_weights(RestorationUNet(channels=[8, 8, 8]))
    image = torch.rand(2, 3, height, width)
    assert network(image).shape == image.shape


def test_a_new_network_returns_its_input():
    image = torch.rand(1, 3, 20, 30)
    assert torch.equal(RestorationUNet(channels=[8, 16])(image), image)


def test_of_more_channels_out_than_in_the_first_are_the_image():
    network = RestorationUNet(out_channels=5, channels=[8, 16])
    image = torch.rand(2, 3, 21, 30)
    assert torch.equal(network(image), torch.cat([image, torch.zeros(2, 2, 21, 30)], 1))
    random_weights(network)
    plain = RestorationUNet(out_channels=5, channels=[8, 16], residual=False)
    plain.load_state_dict(network.state_dict())
    added = network(image) - plain(image)
    torch.testing.assert_close(added, torch.cat([image, torch.zeros(2, 2, 21, 30)], 1))


def test_without_biases_it_is_homogeneous():
    network = random_weights(RestorationUNet(channels=[8, 8])).double()
    image = torch.rand(1, 3, 16, 16, dtype=torch.double)
    torch.testing.assert_close(network(0.3 * image), 0.3 * network(image))
    biased = random_weights(RestorationUNet(channels=[8, 8], bias=True)).double()
    assert (biased(0.3 * image) - 0.3 * biased(image)).abs().max() > 1e-3


def probed_radius(network: nn.Module, stride: int, guess: int) -> int:
    """The farthest pixel on which an output pixel depends, by gradients, over all positions within a cell."""
    side = (2 * guess // stride + 6) * stride
    radius = 0
    for offset in range(stride):
        image = torch.ones(1, 3, side, side, dtype=torch.double, requires_grad=True)
        centre = side // 2 + offset
        network(image)[0, :, centre, centre].sum().backward()
        seen = image.grad[0].abs().sum((0, 1)).nonzero().ravel()
        assert seen[0] > 0, "the probe's image is too small"
        radius = max(radius, centre - int(seen[0]), int(seen[-1]) - centre)
    return radius


@pytest.mark.parametrize(
    ("channels", "blocks", "shuffle"),
    [([4], 1, 1), ([4], 2, 2), ([4, 4], 1, 2), ([4, 4, 4], 1, 1), ([4, 4, 4], 2, 2)],
)
def test_receptive_field_is_what_gradients_say(channels, blocks, shuffle):
    # positive weights: nothing cancels, and relu is open everywhere
    network = random_weights(RestorationUNet(channels=channels, blocks=blocks, shuffle=shuffle), low=0.05).double()
    assert probed_radius(network, network.stride, network.receptive_field) == network.receptive_field


def test_default_size_is_about_two_million_parameters():
    assert 1.8e6 < sum(p.numel() for p in RestorationUNet().parameters()) < 2.5e6


def test_impossible_arguments_are_refused():
    with pytest.raises(ValueError, match="channels must name"):
        RestorationUNet(channels=[])
    with pytest.raises(ValueError, match="at least as many output channels as input channels"):
        RestorationUNet(in_channels=3, out_channels=1)
