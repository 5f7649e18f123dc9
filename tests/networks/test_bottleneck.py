import pytest
import torch

from img2img.networks import BottleneckAutoencoder


@pytest.mark.parametrize(("height", "width"), [(1, 1), (7, 5), (33, 100), (64, 48)])
def test_any_size_goes_in_and_comes_out(height, width):
    network = BottleneckAutoencoder(channels=[8, 8, 8])
    image = torch.rand(2, 3, height, width)
    assert network(image).shape == image.shape
    assert network.encode(image).shape == (2, 32, -(-height // 8), -(-width // 8))


def test_everything_passes_the_code():
    torch.manual_seed(0)
    network = BottleneckAutoencoder(channels=[8, 8], code_channels=1).eval()
    for parameter in network.encoder[-1].parameters():
        torch.nn.init.zeros_(parameter)  # a code that says nothing
    assert torch.equal(network(torch.rand(1, 3, 16, 16)), network(torch.rand(1, 3, 16, 16)))


def test_gray_and_other_channels_out():
    assert BottleneckAutoencoder(1, 3, channels=[4])(torch.rand(1, 1, 6, 6)).shape == (1, 3, 6, 6)
    with pytest.raises(ValueError, match="channels must name"):
        BottleneckAutoencoder(channels=[])
