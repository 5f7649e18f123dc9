import math
from itertools import pairwise

import pytest
import torch
from lightning.pytorch import Trainer
from torch import nn

from img2img.networks import RestorationUNet
from img2img.tasks import Charbonnier, Restoration
from img2img.tasks.schedule import warmup_cosine


def test_charbonnier_is_l1_far_from_zero():
    a, b = torch.rand(2, 3, 8, 8), torch.rand(2, 3, 8, 8)
    assert Charbonnier(1e-6)(a, b).item() == pytest.approx(nn.L1Loss()(a, b).item(), rel=1e-4)
    assert Charbonnier(1e-3)(a, a).item() == pytest.approx(1e-3)


def test_schedule_warms_up_and_decays():
    rates = [warmup_cosine(step, 10, 100, 0.01) for step in range(101)]
    assert rates[0] == pytest.approx(1 / 11)
    assert max(rates) == rates[10] == 1
    assert all(a < b for a, b in pairwise(rates[:11]))
    assert all(a > b for a, b in pairwise(rates[10:]))
    assert rates[100] == pytest.approx(0.01)
    assert warmup_cosine(10**6, 10, math.inf, 0.01) == 1
    assert warmup_cosine(10**6, 10, math.inf, 0.01, time_share=0.5) == pytest.approx(0.505)
    assert warmup_cosine(100, 10, 1000, 0.01, time_share=1.1) == pytest.approx(0.01)


@pytest.mark.parametrize("network_channels", [1, 3])
@pytest.mark.parametrize("channels", [1, 3])
def test_gray_and_colour_images_through_gray_and_colour_networks(channels, network_channels):
    task = Restoration(RestorationUNet(network_channels, channels=[8])).eval()
    image = torch.rand(2, channels, 6, 9)
    restored = task.restore(image)  # a new network returns its input
    torch.testing.assert_close(restored, image)


def test_channels_of_a_foreign_network_are_found():
    assert Restoration(nn.Sequential(nn.Conv2d(1, 4, 3), nn.Conv2d(4, 1, 3))).in_channels == 1
    folded = nn.Sequential(nn.PixelUnshuffle(2), nn.Conv2d(12, 12, 3, padding=1), nn.PixelShuffle(2))
    assert Restoration(folded).in_channels == 3


def test_a_loss_that_is_a_network_is_not_trained():
    class Perceptual(nn.Module):
        def __init__(self):
            super().__init__()
            self.features = nn.Conv2d(3, 4, 3)

    task = Restoration(RestorationUNet(channels=[4]), Perceptual())
    task.trainer = Trainer(max_steps=1, accelerator="cpu", logger=False)
    optimizer = task.configure_optimizers()["optimizer"]
    trained = {id(p) for group in optimizer.param_groups for p in group["params"]}
    assert trained == {id(p) for p in task.network.parameters()}
