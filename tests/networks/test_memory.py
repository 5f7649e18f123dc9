import pytest
import torch
from torch import Tensor, nn

from img2img.networks import RestorationUNet, bytes_per_pixel
from img2img.networks.memory import SAFETY, training_bytes


def test_one_convolution_holds_its_input_and_its_output():
    assert bytes_per_pixel(nn.Conv2d(3, 8, 3, padding=1), 3) == SAFETY * 4 * (3 + 8)
    assert bytes_per_pixel(nn.Conv2d(3, 8, 3, padding=1), 3, torch.bfloat16) == SAFETY * 2 * (3 + 8)


def test_what_is_freed_counts_no_more_and_views_and_weights_never():
    class Chain(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.zeros(3, 512 * 512))

        def forward(self, x: Tensor) -> Tensor:
            self.weight.view(-1)
            for _ in range(5):
                x = x.flip(2).transpose(2, 3)
            return x

    assert bytes_per_pixel(Chain(), 3) == SAFETY * 4 * 3 * 3  # the image, which the caller holds, and two successive


def test_a_network_that_needs_contents_is_run():
    class Picky(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x * 2 if x.max().item() >= 0 else x * 3

    assert bytes_per_pixel(Picky(), 1) == SAFETY * 4 * 2


def test_a_network_that_runs_nowhere_says_why():
    with pytest.raises(RuntimeError, match="expected input"):
        bytes_per_pixel(nn.Conv2d(3, 8, 3), 4)


def test_the_unet_holds_three_tensors_of_its_finest_level_and_the_image():
    network = RestorationUNet(channels=[64, 64]).train()
    finest = 64 / 4  # floats per pixel
    assert bytes_per_pixel(network, 3) / SAFETY <= 4 * (3 * finest + 3 * 3)
    assert network.training
    assert next(network.parameters()).device.type == "cpu"


def test_training_keeps_what_the_backward_pass_needs():
    two = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 3, 3, padding=1))
    kept = 4 * 2 * 64 * 64 * (3 + 8 + 8 + 3)  # the image and every layer's output
    assert kept <= training_bytes(two, (2, 3, 64, 64)) <= 2 * kept
    assert two[0].weight.grad is None
