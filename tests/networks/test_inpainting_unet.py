import pytest
import torch
import torch.nn.functional as F
from torch import nn

from img2img.networks import InpaintingUNet
from img2img.networks.inpainting_unet import pull_push, smooth_filling


@pytest.mark.parametrize(("height", "width"), [(1, 1), (7, 5), (33, 300)])
@pytest.mark.parametrize("in_channels", [2, 4])
def test_any_size_goes_in_and_comes_out(height, width, in_channels):
    network = InpaintingUNet(in_channels, [8, 8], levels=4)
    assert network(torch.rand(2, in_channels, height, width)).shape == (2, in_channels - 1, height, width)


def test_a_new_network_returns_the_smooth_filling():
    x = torch.rand(1, 4, 20, 30)
    x[:, 3:] = (x[:, 3:] > 0.5).float()
    network = InpaintingUNet(channels=[8, 8], levels=3)
    torch.testing.assert_close(network(x), smooth_filling(x[:, :3], x[:, 3:], 3))


def test_the_filling_keeps_what_is_known_and_is_smooth_in_between():
    ramp = torch.linspace(0.2, 0.8, 64).expand(1, 1, 48, 64)
    mask = (torch.rand(1, 1, 48, 64, generator=torch.Generator().manual_seed(0)) < 0.8).float()
    filled = pull_push(ramp * (1 - mask), mask, 6)
    assert torch.equal(filled[mask == 0], ramp[mask == 0])
    assert (filled - ramp).abs().max() < 0.08
    wide = torch.zeros_like(mask)
    wide[..., 10:40, 20:50] = 1
    inside = pull_push(ramp * (1 - wide), wide, 6)[..., 10:40, 20:50]
    assert inside.min() >= 0.2 - 1e-6
    assert inside.max() <= 0.8 + 1e-6


def test_shifted_grids_come_nearer_to_the_photograph(photo):
    image = torch.from_numpy(photo).permute(2, 0, 1)[None] / 255
    mask = (torch.rand(1, 1, *image.shape[-2:], generator=torch.Generator().manual_seed(0)) < 0.8).float()
    once, spun = (fill(image * (1 - mask), mask, 6) for fill in (pull_push, smooth_filling))
    assert ((spun - image) ** 2).mean() < 0.93 * ((once - image) ** 2).mean()  # 0.3 dB
    torch.testing.assert_close(spun * (1 - mask), image * (1 - mask))


def test_an_image_that_is_all_hole_becomes_gray():
    assert torch.equal(pull_push(torch.rand(1, 3, 9, 9), torch.ones(1, 1, 9, 9), 4), torch.full((1, 3, 9, 9), 0.5))


@pytest.mark.parametrize("levels", [1, 2, 3])
def test_receptive_field_holds_for_the_emptiest_images(levels):
    """One known pixel in an endless hole: how far from it does it show?"""
    network = InpaintingUNet(2, [4], 1, levels)
    for parameter in network.parameters():
        nn.init.uniform_(parameter, 0.05, 0.1)
    side, reach = 2 * network.receptive_field // 16 * 16 + 64, 0
    for offset in range(2**levels):
        centre = side // 2 + offset
        mask = torch.ones(1, 1, side, side)
        mask[..., centre, centre] = 0
        image = F.one_hot(torch.tensor(centre), side).float().expand(1, 1, side, side) * 3
        changed = (network(torch.cat([image, mask], 1)) - network(torch.cat([image * 0, mask], 1))).abs()
        seen = changed[0, 0].amax(0).gt(1e-7).nonzero().ravel()
        assert seen[0] > 0
        assert seen[-1] < side - 1
        reach = max(reach, centre - int(seen[0]), int(seen[-1]) - centre)
    assert reach <= network.receptive_field
    assert reach > 0.5 * (network.receptive_field - 15), "nor is it much too large"  # 15: the shifts of the grids


def test_impossible_arguments_are_refused():
    with pytest.raises(ValueError, match="at least 2"):
        InpaintingUNet(1)
