"""What probing finds, against what networks declare and what one can tell by hand."""

import math

import pytest
import torch
from torch import Tensor, nn

from img2img.networks import (
    BottleneckAutoencoder,
    InpaintingUNet,
    Padded,
    ReceptiveField,
    RestorationUNet,
    receptive_field_of,
)
from img2img.networks.receptive_field import confirm_receptive_field, declared_receptive_field, probe_receptive_field


def conv(kernel: int = 3, channels: int = 3, **arguments: int) -> nn.Conv2d:
    dilation = arguments.get("dilation", 1)
    return nn.Conv2d(channels, channels, kernel, padding=dilation * (kernel // 2), **arguments)


class Undeclared(nn.Module):
    """Hides what a network says about itself."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: Tensor) -> Tensor:
        return self.network(x)


OURS = [
    *(
        (RestorationUNet(channels=[4] * levels, blocks=blocks, shuffle=shuffle), 3)
        for levels, blocks, shuffle in [(1, 1, 1), (1, 2, 2), (2, 1, 2), (3, 1, 1), (3, 2, 2), (2, 1, 3)]
    ),
    *((BottleneckAutoencoder(channels=[4] * levels, blocks=blocks), 3) for levels, blocks in [(1, 0), (2, 1), (3, 2)]),
    *((InpaintingUNet(2, [4], 1, levels), 2) for levels in (0, 1, 3, 4)),
    (InpaintingUNet(4, [4, 4, 4], 1, 1), 4),
    (Padded(RestorationUNet(channels=[4, 4]), 16), 3),
]


@pytest.mark.parametrize(("network", "channels"), OURS)
def test_ours_declare_exactly_what_is_probed(network, channels):
    declared, probed = declared_receptive_field(network), probe_receptive_field(Undeclared(network), channels)
    assert declared is not None
    assert probed is not None
    assert probed.radius == declared.radius
    # shifted grids may have a shorter period than each of them, as far as one axis can tell
    assert declared.stride % probed.stride == 0
    assert confirm_receptive_field(network, declared, channels)


KNOWN = {
    "convolution": (conv(), ReceptiveField(1, 1)),
    "dilated": (conv(dilation=4), ReceptiveField(4, 1)),
    "depthwise": (nn.Sequential(conv(5, groups=3), nn.ReLU(), conv(1)), ReceptiveField(2, 1)),
    "wide kernel": (nn.Conv2d(3, 3, (1, 7), padding=(0, 3)), ReceptiveField(3, 1)),
    # cell j sees rows 2j - 1 to 2j + 1 and is seen by 2j - 1 to 2j + 2: row 2k + 1 reaches cells k and k + 1
    "down and up": (
        nn.Sequential(nn.Conv2d(3, 4, 3, stride=2, padding=1), nn.ConvTranspose2d(4, 3, 4, stride=2, padding=1)),
        ReceptiveField(3, 2),
    ),
    "every fourth": (nn.Sequential(nn.MaxPool2d(1, 4), nn.Upsample(scale_factor=4)), ReceptiveField(3, 4)),
    "larger": (nn.Sequential(conv(), nn.Upsample(scale_factor=2), conv()), ReceptiveField(2, 1, 2)),
    "batch norm": (nn.Sequential(conv(), nn.BatchNorm2d(3), conv()), ReceptiveField(2, 1)),
    "instance norm": (nn.Sequential(conv(), nn.InstanceNorm2d(3)), None),
    "too small": (nn.Conv2d(3, 3, 3), None),
    "corners": (
        nn.Sequential(nn.AvgPool2d(2), nn.Upsample(scale_factor=2, mode="bilinear", align_corners=True)),
        None,
    ),
}


@pytest.mark.parametrize("name", KNOWN)
def test_what_one_can_tell_by_hand(name):
    network, expected = KNOWN[name]
    assert receptive_field_of(network, 3) == expected


class Gate(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x * x.mean((2, 3), keepdim=True).sigmoid()


class Attention(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        pixels = x.flatten(2).mT
        return (torch.softmax(pixels @ pixels.mT, -1) @ pixels).mT.reshape(x.shape)


class Hidden(nn.Module):
    """Probing sees the shortcut only; the comparison of tiles sees the rest."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = conv()

    def forward(self, x: Tensor) -> Tensor:
        return x + self.conv(torch.nan_to_num(x))


@pytest.mark.parametrize("network", [Gate(), Attention(), Hidden()], ids=lambda network: type(network).__name__)
def test_what_sees_everything_or_hides_what_it_sees_has_no_reach(network):
    assert receptive_field_of(network, 3) is None


def test_the_guard_knows_a_radius_and_a_stride_that_are_too_small():
    torch.manual_seed(0)
    network = nn.Sequential(nn.AvgPool2d(4), conv(), nn.Upsample(scale_factor=4))
    true = probe_receptive_field(network, 3)
    assert true == ReceptiveField(7, 4)
    assert confirm_receptive_field(network, true, 3)
    assert not confirm_receptive_field(network, ReceptiveField(3, 4), 3)
    assert not confirm_receptive_field(Padded(network, 4), ReceptiveField(7, 2), 3)


def test_zeros_and_closed_relus_hide_nothing_and_the_network_stays_as_it_was():
    network = nn.Sequential(conv(), nn.ReLU(), conv()).train()
    nn.init.zeros_(network[0].weight)
    nn.init.constant_(network[0].bias, -1)
    before = [parameter.clone() for parameter in network.parameters()]
    assert receptive_field_of(network, 3) == ReceptiveField(2, 1)
    assert network.training
    assert all(torch.equal(*pair) for pair in zip(before, network.parameters(), strict=True))


def test_a_limit_is_kept():
    assert probe_receptive_field(conv(dilation=40), 3, limit=40) == ReceptiveField(40, 1)
    assert probe_receptive_field(conv(dilation=40), 3, limit=39) is None


def test_stride_has_the_multiples_that_sizes_must_be():
    class Picky(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            assert x.shape[-1] % 8 == x.shape[-2] % 8 == 0
            return x * 2

    assert receptive_field_of(Picky(), 3) == ReceptiveField(0, 8)
    assert receptive_field_of(Padded(Picky(), 16), 3) == ReceptiveField(0, 16)


def test_a_network_from_elsewhere_goes_in_tiles():
    library = pytest.importorskip("segmentation_models_pytorch", reason="the extra third-party is not installed")
    network = library.Unet("resnet18", encoder_weights=None, encoder_depth=3, decoder_channels=(16, 8, 4))
    reach = receptive_field_of(Padded(network, 8), 3)
    assert reach is not None
    assert reach.stride == 8
    network.double().eval()
    start = math.ceil((reach.radius + 1) / 8) * 8
    image = torch.rand(1, 3, start + reach.radius // 8 * 8 + 16, 16, dtype=torch.double)
    with torch.no_grad():
        whole, tile = network(image), network(image[:, :, start:])
    torch.testing.assert_close(tile[:, :, reach.radius :], whole[:, :, start + reach.radius :])
    assert not torch.allclose(tile[:, :, :8], whole[:, :, start : start + 8])
