from pathlib import Path

import pytest
import torch

from img2img.errors import UserError
from img2img.latents.one_device import OneDevice, device_of
from tests.latents.autoencoders import by_hand, picture

LATENTS = torch.tensor([[0.1, -0.1, 0.05], [-0.2, 0.1, 0.0], [0.0, 0.0, 0.1]])


def test_batches_make_no_difference():
    images = [OneDevice(by_hand(), "cpu", batch_size=size).decode(LATENTS) for size in (1, 2, 32)]
    assert images[0].shape == (3, 1, 8, 8)
    for other in images[1:]:
        torch.testing.assert_close(other, images[0])
    assert not images[0].requires_grad
    assert not images[0].is_inference(), "the caller may compute on with them"


@pytest.mark.parametrize("precision", ["auto", "bf16-mixed", "16-mixed", "bf16-true", "16-true", "64-true"])
def test_other_precisions_give_nearly_the_same_as_float32(precision):
    exact = OneDevice(by_hand(), "cpu").decode(LATENTS)
    found = OneDevice(by_hand(), "cpu", precision).decode(LATENTS)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, exact, atol=0.01, rtol=0)


def test_an_image_file_becomes_its_latent():
    latent, image = OneDevice(by_hand(), "cpu").encode_file(picture(Path("a.png"), [0.1, -0.1, 0.05]))
    torch.testing.assert_close(latent, torch.tensor([0.1, -0.1, 0.05]), atol=0.002, rtol=0)
    assert image.shape == (1, 8, 8)
    Path("b.png").write_text("no image")
    with pytest.raises(UserError, match=r"cannot read b\.png"):
        OneDevice(by_hand(), "cpu").encode_file(Path("b.png"))


@pytest.mark.parametrize(
    ("cuda", "mps", "accelerator", "device"),
    [
        (False, False, "auto", "cpu"),
        (True, True, "auto", "cuda"),
        (False, True, "auto", "mps"),
        (False, True, "gpu", "mps"),
        (True, True, "gpu", "cuda"),
        (True, True, "cpu", "cpu"),
        (True, True, "mps", "mps"),
    ],
)
def test_the_best_device_there_is(monkeypatch, cuda, mps, accelerator, device):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: mps)
    assert device_of(accelerator) == torch.device(device)


@pytest.mark.parametrize("accelerator", ["gpu", "cuda", "mps", "abacus"])
def test_a_device_that_is_not_there(monkeypatch, accelerator):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    with pytest.raises(UserError, match=f"--accelerator {accelerator} is not there: this machine has cpu"):
        device_of(accelerator)


def test_a_precision_of_another_name():
    with pytest.raises(UserError, match="--precision 31 is not one of auto, 32-true, 64-true"):
        OneDevice(by_hand(), "cpu", "31")
