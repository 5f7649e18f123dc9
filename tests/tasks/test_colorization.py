import itertools

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

import img2img
from img2img.cli import main
from img2img.errors import UserError
from img2img.networks import RestorationUNet
from img2img.tasks import ChromaClasses, ChromaLoss, Colorization
from img2img.tasks.colour import chroma, luma, with_chroma


def wild(out_channels: int = 2) -> RestorationUNet:
    """A network whose chroma leaves the gamut nearly everywhere."""
    torch.manual_seed(0)
    network = RestorationUNet(1, out_channels, [8], shuffle=2, bias=True, residual=False)
    with torch.no_grad():
        network.tail.weight *= 30
    return network


def test_luma_and_chroma_make_up_the_image():
    image = torch.rand(2, 3, 20, 30)
    torch.testing.assert_close(with_chroma(luma(image), chroma(image)), image)
    gray = torch.rand(1, 1, 5, 5).expand(-1, 3, -1, -1)
    assert chroma(gray).abs().max() < 1e-6


def test_luma_is_what_every_program_converts_to(photo):
    ours = luma(torch.from_numpy(photo).permute(2, 0, 1)[None].float()).round()[0, 0].numpy()
    assert np.abs(ours - np.array(Image.fromarray(photo).convert("L"))).max() <= 1  # Pillow counts in integers


def test_chroma_is_shrunk_into_the_gamut_and_keeps_luma_and_hue():
    bright, colour = torch.rand(4, 1, 64, 64), (torch.rand(4, 2, 64, 64) - 0.5) * 4
    image = with_chroma(bright, colour)
    assert image.min() >= 0
    assert image.max() <= 1
    assert (luma(image) - bright).abs().max() < 1e-6
    shrunk = chroma(image)
    kept = shrunk.norm(dim=1) > 0.02
    cosine = nn.functional.cosine_similarity(shrunk, colour, dim=1)[kept]
    assert cosine.min() > 0.999
    left = torch.minimum(image.amin(1), 1 - image.amax(1))[shrunk.norm(dim=1) < colour.norm(dim=1) - 1e-4]
    assert len(left) > 1000
    assert left.abs().max() < 1e-5, "no pixel was shrunk more than it had to be"


@pytest.mark.parametrize("levels", [255, 65535])
def test_the_luma_of_a_coloured_file_is_the_gray_file(levels):
    gray = torch.randint(0, levels + 1, (1, 1, 61, 45)) / levels
    coloured = (Colorization(wild())(gray) * levels).round() / levels
    assert coloured.shape == (1, 3, 61, 45)
    assert chroma(coloured).abs().mean() > 0.05
    assert (luma(coloured) - gray).abs().max() <= 0.51 / levels
    assert ((luma(coloured) * levels).round() - gray * levels).abs().max() <= 1


def test_colour_images_are_coloured_anew():
    task, image = Colorization(wild()), torch.rand(1, 3, 16, 16)
    torch.testing.assert_close(task.restore(image), task.restore(luma(image)))


def test_through_a_folder_gray_becomes_colour_of_the_same_luma(program, photo):
    program("fit", "--trainer.max_steps=2", config="colorize.yaml")
    Image.fromarray(photo).convert("L").save("gray.png", icc_profile=gray_profile())
    Image.fromarray(photo[:50, :40]).save("colour.png")
    for name in ("gray", "colour"):
        main(["restore", f"{name}.png", f"{name}_out.png", "--model", "runs/colorize/0/best.ckpt"])
        result = Image.open(f"{name}_out.png")
        assert result.mode == "RGB"
        assert "icc_profile" not in result.info or result.info["icc_profile"][16:20] == b"RGB "
        before, after = (np.array(Image.open(f).convert("L"), int) for f in (f"{name}.png", f"{name}_out.png"))
        assert np.abs(before - after).max() <= 1
    assert np.ptp(np.array(Image.open("gray_out.png")), axis=2).max() > 0, "it has colour"


def gray_profile() -> bytes:
    """The head of an ICC profile whose colour space is gray."""
    head = bytearray(132)
    head[0:4] = len(head).to_bytes(4, "big")
    head[12:24], head[36:40] = b"mntrGRAYXYZ ", b"acsp"
    return bytes(head)


def test_chroma_loss_is_the_mean_distance():
    gray = torch.zeros(1, 2, 8, 8)
    off = torch.stack([gray[:, 0] + 0.3, gray[:, 1] + 0.4], 1)
    for saturation in (-1, 0, 2):
        assert ChromaLoss(saturation)(off, gray).item() == pytest.approx(0.5, abs=1e-4)


@pytest.mark.parametrize(("loss", "channels"), [(ChromaLoss(-1), 2), (ChromaLoss(1), 2), (ChromaClasses(), 107)])
def test_the_loss_of_a_batch_is_the_mean_of_its_images_however_vivid(loss, channels):
    output, target = torch.rand(2, channels, 4, 4), torch.stack([torch.zeros(2, 4, 4), torch.rand(2, 4, 4) - 0.5])
    alone = [loss(output[i : i + 1], target[i : i + 1]) for i in range(2)]
    torch.testing.assert_close(loss(output, target), torch.stack(alone).mean())


def test_saturation_decides_whether_vivid_pixels_count():
    target = torch.zeros(1, 2, 1, 10)
    target[:, 0, :, :4] = 0.3  # four vivid pixels of ten
    gray, vivid = torch.zeros_like(target), target.amax() * (torch.tensor([1.0, 0.0]).view(1, 2, 1, 1) + 0 * target)
    assert ChromaLoss(-1)(gray, target) < ChromaLoss(-1)(vivid, target)
    assert ChromaLoss(1)(gray, target) > ChromaLoss(1)(vivid, target)


def test_classes_decode_what_they_encode():
    loss = ChromaClasses(step=0.1, temperature=1.0)
    target = chroma(torch.rand(1, 3, 16, 16))
    logits = torch.full((1, loss.channels, 16, 16), -30.0)
    for cell, share in loss._corners(target):
        logits.scatter_(1, loss.cell_of[cell][:, None], share[:, None].clamp_min(1e-12).log())
    torch.testing.assert_close(loss.decode(logits), target, atol=1e-4, rtol=0)
    nearly_best = loss(logits, target)
    assert nearly_best < loss(torch.zeros_like(logits), target)
    assert nearly_best <= loss(logits + torch.randn_like(logits), target)


def test_a_low_temperature_takes_a_likely_colour_not_the_middle():
    loss = ChromaClasses(step=0.1, temperature=0.1)
    logits = torch.full((1, loss.channels, 1, 1), -10.0)
    red, blue = (int(((loss.centres - torch.tensor(c)) ** 2).sum(1).argmin()) for c in ((-0.1, 0.3), (0.3, -0.1)))
    logits[0, red], logits[0, blue] = 1.0, 0.5
    middle = ChromaClasses(step=0.1, temperature=1.0).decode(logits)
    assert loss.decode(logits)[0, :, 0, 0].tolist() == pytest.approx([-0.1, 0.3], abs=0.01)
    assert middle.norm() < 0.25


def test_a_network_of_other_channels_is_named():
    loss = ChromaClasses()
    with pytest.raises(UserError, match=f"needs a network with {loss.channels} output channels, not 2"):
        Colorization(wild(), loss)(torch.rand(1, 1, 8, 8))
    assert Colorization(wild(loss.channels), loss)(torch.rand(1, 1, 8, 8)).shape == (1, 3, 8, 8)


LOSSES = {
    nn.L1Loss: ["--model.loss=L1Loss"],
    ChromaLoss: ["--model.loss.init_args.saturation=3"],
    ChromaClasses: ["--model.loss=ChromaClasses", "--model.network.init_args.out_channels=107"],  # as README says
}
PRECISIONS = ("32-true", "64-true", "bf16-mixed")
EACH_ONCE = list(zip(LOSSES, PRECISIONS, strict=True))
"""Losses and precisions that are tried each time; the other pairs in the slow tests."""


@pytest.mark.parametrize(
    ("expected", "precision"),
    [
        pytest.param(*pair, marks=[] if pair in EACH_ONCE else pytest.mark.slow)
        for pair in itertools.product(LOSSES, PRECISIONS)
    ],
)
def test_losses_are_chosen_in_yaml_and_luma_is_kept_in_any_precision(program, expected, precision):
    flags = [*LOSSES[expected], f"--trainer.precision={precision}"]
    program("fit", "--trainer.max_steps=2", *flags, config="colorize.yaml")
    program("test", "--ckpt_path=best", *flags, config="colorize.yaml")
    task = img2img.load("runs/colorize/0/best.ckpt")
    assert type(task.loss) is expected
    if expected is ChromaLoss:
        assert task.loss.saturation == 3
    gray = torch.randint(0, 65536, (1, 1, 9, 7)) / 65535
    with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16-mixed"):
        coloured = task(gray)
    assert (luma(coloured) - gray).abs().max() < 1e-6


def test_wrong_channels_are_said_in_one_line(program, capsys):
    for flags, words in (
        (["--data.channels=1"], "learns from colour images"),
        (["--model.network.init_args.in_channels=3"], "the network takes 3 channel(s) and Colorization gives it 1"),
        (["--data.corruption=[{class_path: ToGray, init_args: {num_output_channels: 1, p: 0.5}}]"], "needs p: 1.0"),
    ):
        with pytest.raises(SystemExit) as stop:
            program("fit", "--trainer.max_steps=1", *flags, "--data.batch_size=16", config="colorize.yaml")
        assert stop.value.code == 2
        assert words in capsys.readouterr().err
