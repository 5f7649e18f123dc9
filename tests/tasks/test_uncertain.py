import math

import numpy as np
import pytest
import torch
from lightning.pytorch import Trainer
from torch import nn
from torch.distributions import Normal
from torch.utils.data import DataLoader

from img2img.errors import UserError
from img2img.networks import RestorationUNet
from img2img.tasks import UncertainRestoration
from img2img.tasks.uncertain import GaussianNLL, split
from img2img.tiling.geometry import tiling_by_side
from img2img.tiling.planner import Planner
from img2img.tiling.stitch import restore_in_tiles


class Says(nn.Module):
    """Returns its input, and for each channel always the same σ."""

    def __init__(self, *sigma: float) -> None:
        super().__init__()
        self.in_channels = len(sigma)
        wanted = torch.tensor(sigma).log().view(1, -1, 1, 1)
        self.register_buffer("free", 3 * torch.atanh((wanted + 3) / 3))

    def forward(self, x):
        return torch.cat([x, self.free.expand_as(x)], 1)


@pytest.fixture
def image(photo):
    return torch.from_numpy(photo[:150, :203] / np.float32(255)).permute(2, 0, 1)[None]


@pytest.fixture
def raw():
    """What a network might say: N×6×H×W."""
    return torch.randn(2, 6, 8, 9, generator=torch.Generator().manual_seed(0)).requires_grad_()


@pytest.mark.parametrize("share", [0.1, 1])
def test_the_loss_is_the_likelihood_that_torch_knows(raw, share):
    mean, log_sigma = split(raw)
    target = mean.detach() + 0.1
    wanted = -Normal(mean, log_sigma.exp()).log_prob(target).mean()
    found = GaussianNLL(share)(raw, target)
    torch.testing.assert_close(found, wanted)
    (wanted_gradient,), (gradient,) = torch.autograd.grad(wanted, raw), torch.autograd.grad(found, raw)
    torch.testing.assert_close(gradient[:, :3], wanted_gradient[:, :3])  # the image learns alike
    torch.testing.assert_close(gradient[:, 3:], share * wanted_gradient[:, 3:])  # and σ as told
    with pytest.raises(ValueError, match="sigma_share must lie in"):
        GaussianNLL(0)


def test_sigma_stays_within_bounds_from_which_it_can_return():
    free = torch.tensor([-8.0, 0.0, 8.0]).view(1, 3, 1, 1).requires_grad_()
    _, log_sigma = split(torch.cat([torch.zeros(1, 3, 1, 1), free], 1))
    assert -6 < log_sigma.min() < -5.9 < -3 == log_sigma.flatten()[1] < -0.1 < log_sigma.max() < 0
    log_sigma.sum().backward()
    assert free.grad.min() > 0


@pytest.mark.parametrize(("said", "shares"), [(0.05, (0.683, 0.954)), (0.025, (0.383, 0.683)), (0.1, (0.954, 1.0))])
def test_calibration_tells_a_right_sigma_from_too_small_and_too_large_ones(image, said, shares):
    clean = 0.4 + 0.2 * image  # far from black and white: nothing is clamped
    noise = 0.05 * torch.randn(clean.shape, generator=torch.Generator().manual_seed(0))
    batch = {"input": clean + noise, "target": clean, "mask": torch.zeros_like(clean[:, :1])}
    batch |= {"n": torch.tensor([0]), "counted": [True], "corruption": ["noise"], "path": ["a.png"]}
    task = UncertainRestoration(Says(said, said, said))
    quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False}
    trainer = Trainer(accelerator="cpu", enable_checkpointing=False, **quiet)
    scores = trainer.test(task, dataloaders=DataLoader([batch], batch_size=None), verbose=False)[0]
    assert (scores["test/within_1_sigma"], scores["test/within_2_sigma"]) == pytest.approx(shares, abs=0.005)
    assert scores["test/sigma"] == pytest.approx(said, rel=1e-4)
    assert scores["test/psnr"] == pytest.approx(-20 * math.log10(0.05), abs=0.1)
    wanted = 0.5 * (0.05 / said) ** 2 + math.log(said) + 0.5 * math.log(2 * math.pi)
    assert scores["test/loss"] == pytest.approx(wanted, abs=0.03)


@pytest.mark.parametrize("ensemble", [False, True])
@pytest.mark.parametrize(
    ("channels", "said", "sigma"),
    [
        (3, (0.1, 0.2, 0.3), 0.2),
        (1, (0.1, 0.2, 0.3), 0.299 * 0.1 + 0.587 * 0.2 + 0.114 * 0.3),
        (3, (0.1,), 0.1),
        (1, (0.1,), 0.1),
    ],
)
def test_sigma_of_gray_and_colour_images_by_gray_and_colour_networks(image, channels, said, sigma, ensemble):
    task = UncertainRestoration(Says(*said)).eval()
    seen = torch.cat([image, image.flip(3)])[:, :channels]
    with torch.inference_mode():
        plain = task.restore_tile(seen, None, ensemble)
        both = task.restore_tile(seen, None, ensemble, uncertainty=True)
    assert plain.shape == seen.shape
    torch.testing.assert_close(both[:, :-1], plain)
    torch.testing.assert_close(both[:, -1], torch.full_like(seen[:, 0], sigma))


def test_a_gray_network_says_the_mean_of_what_it_says_of_the_channels(image):
    class Darker(nn.Module):
        in_channels = 1

        def forward(self, x):
            return torch.cat([x, 2 * x], 1)

    task = UncertainRestoration(Darker()).eval()
    two = torch.cat([image, image.flip(2)])
    wanted = split(torch.cat([two, 2 * two], 1))[1].exp().mean(1)
    torch.testing.assert_close(task.restore_tile(two, uncertainty=True)[:, -1], wanted)


def test_tiles_change_nothing(image):
    torch.manual_seed(0)
    task = UncertainRestoration(RestorationUNet(3, 6, (8, 8), 1, bias=True)).eval()
    for weight in task.network.parameters():
        nn.init.normal_(weight, std=0.1)
    cut = Planner(task).cut
    assert not cut.blend
    with torch.inference_mode():
        whole = task.restore_tile(image, uncertainty=True)
        tiled = restore_in_tiles(task, image, None, tiling_by_side(150, 203, cut, 48), uncertainty=True)
    assert whole.shape[1] == 4
    assert whole[:, -1].std() > 1e-4
    assert (whole - tiled).abs().max() <= 1e-5


def test_it_learns_where_noise_is():
    """Half of each image has noise that nothing predicts: σ becomes large there, and small in the other half."""
    torch.manual_seed(0)
    task = UncertainRestoration(RestorationUNet(1, 2, (8, 8), 1, bias=True))
    optimizer = torch.optim.AdamW(task.parameters(), lr=1e-2)
    where = torch.zeros(8, 1, 16, 32)
    where[..., 16:] = 1
    for _ in range(150):
        target = 0.5 + 0.1 * where * torch.randn(where.shape)
        batch = {"input": 0.4 + 0.2 * where, "target": target}
        optimizer.zero_grad()
        task.loss_of(task.forward_batch(batch), batch).backward()
        optimizer.step()
    restored, sigma = task.estimate(batch["input"])
    assert sigma[..., 20:].mean().item() == pytest.approx(0.1, rel=0.15)
    assert sigma[..., :12].mean() < 0.03
    assert (restored - 0.5).abs().mean() < 0.02


def test_a_network_that_gives_an_image_alone_is_refused(image):
    with pytest.raises(UserError, match="out_channels to 6"):
        UncertainRestoration(RestorationUNet(channels=(4,)))(image)
    assert UncertainRestoration()(image[..., :16, :16]).shape == (1, 3, 16, 16)
