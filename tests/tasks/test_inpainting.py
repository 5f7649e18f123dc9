from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

import img2img
from img2img.cli import main
from img2img.errors import UserError
from img2img.networks import InpaintingUNet
from img2img.tasks import Inpainting, Restoration


def strange(in_channels: int = 4) -> InpaintingUNet:
    """A network that changes every pixel."""
    torch.manual_seed(0)
    network = InpaintingUNet(in_channels, [8], 1, levels=3)
    nn.init.normal_(network.unet.tail.weight)
    return network


@pytest.mark.parametrize("in_channels", [2, 4])
@pytest.mark.parametrize("channels", [1, 3])
def test_known_pixels_stay_to_the_bit(channels, in_channels):
    task = Inpainting(strange(in_channels))
    image, mask = torch.rand(2, channels, 21, 34), (torch.rand(2, 1, 21, 34) < 0.5).float()
    filled = task.restore(image, mask)
    known = ~mask.bool().expand_as(image)
    assert torch.equal(filled[known], image[known])
    assert (filled[~known] - image[~known]).abs().mean() > 0.05
    assert filled.min() >= 0
    assert filled.max() <= 1


def test_what_stands_in_the_hole_does_not_matter():
    task, mask = Inpainting(strange()), torch.zeros(1, 1, 16, 16)
    mask[..., 4:9, 4:9] = 1
    image = torch.rand(1, 3, 16, 16)
    other = torch.where(mask.bool(), torch.rand(1, 3, 16, 16), image)
    assert torch.equal(task(image, mask), task(other, mask))


def test_holes_may_hold_nan():
    task, mask = Inpainting(strange()), torch.zeros(1, 1, 16, 16)
    mask[..., 4:9, 4:9] = 1
    image = torch.rand(1, 3, 16, 16).masked_fill(mask.bool(), float("nan"))
    assert torch.isfinite(task(image, mask)).all()


@pytest.mark.parametrize("channels", [1, 3])
def test_a_network_from_elsewhere_fills_too(channels):
    task = Inpainting(nn.Sequential(nn.Conv2d(4, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 3, 3, padding=1)))
    image, mask = torch.rand(1, channels, 8, 9), torch.zeros(1, 1, 8, 9)
    mask[..., 3:5] = 1
    assert torch.equal(task.restore(image, mask)[..., :3], image[..., :3])


@pytest.mark.parametrize("precision", ["bf16-mixed", "64-true"])
def test_it_trains_and_keeps_what_is_known_in_other_precisions(program, precision):
    flags = ["--trainer.max_steps=2", f"--trainer.precision={precision}"]
    program("fit", *flags, config="inpaint.yaml")
    program("test", "--ckpt_path=best", *flags[1:], config="inpaint.yaml")
    task = img2img.load("runs/inpaint/0/best.ckpt")
    image, mask = torch.rand(1, 3, 20, 20), (torch.rand(1, 1, 20, 20) < 0.3).float()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        filled = task.restore(image, mask)
    known = ~mask.bool().expand_as(image)
    assert torch.equal(filled[known], image[known])


def test_a_corruption_without_holes_is_warned_of(program):
    boxes = "--data.corruption=[{class_path: CoarseDropout, init_args: {p: 1.0}}]"
    with pytest.warns(UserWarning, match="nothing is masked in the first batch"):
        program("fit", "--trainer.max_steps=1", boxes, config="inpaint.yaml")


def test_masks_are_not_written_over(inpainter, photo):
    Path("in").mkdir()
    Path("masks").mkdir()
    Image.fromarray(photo[:20, :20]).save("in/a.png")
    Image.fromarray(photo[:20, :20, 0]).save("masks/a.png")
    before = Path("masks/a.png").read_bytes()
    for source, output, mask in (
        ("in", "masks", "masks"),
        ("in", "masks/out", "masks"),
        ("in/a.png", "masks/a.png", "masks/a.png"),
    ):
        with pytest.raises(SystemExit) as stop:
            main(["restore", source, output, "--model", inpainter, "--mask", mask])
        assert stop.value.code == 2
    assert Path("masks/a.png").read_bytes() == before


def test_the_loss_looks_at_the_hole():
    task = Inpainting(strange(), nn.MSELoss())
    batch = {name: torch.rand(1, 3, 8, 8) for name in ("input", "target")}
    batch["mask"] = torch.zeros(1, 1, 8, 8)
    batch["mask"][..., :2] = 1
    raw = torch.rand(1, 3, 8, 8)
    expected = ((raw - batch["target"])[..., :2] ** 2).mean()
    torch.testing.assert_close(task.loss_of(raw, batch), expected)
    batch["mask"] *= 0
    assert torch.isfinite(task.loss_of(raw, batch))


def test_the_loss_of_a_batch_is_the_mean_of_its_images_however_large_their_holes():
    task = Inpainting(strange(), nn.MSELoss())
    batch = {name: torch.rand(3, 3, 8, 8) for name in ("input", "target")}
    batch["mask"] = torch.zeros(3, 1, 8, 8)
    batch["mask"][0, :, :2] = 1
    batch["mask"][1] = 1  # the last image has no hole
    raw = torch.rand(3, 3, 8, 8)
    alone = [task.loss_of(raw[i : i + 1], {key: value[i : i + 1] for key, value in batch.items()}) for i in range(3)]
    torch.testing.assert_close(task.loss_of(raw, batch), torch.stack(alone).mean())


def test_without_hole_loss_masks_are_ignored_and_with_it_the_rest_is():
    batch = {"target": torch.zeros(1, 3, 4, 4), "mask": torch.zeros(1, 1, 4, 4)}
    batch["mask"][..., 0, 0] = 1
    raw = torch.ones(1, 3, 4, 4)
    raw[..., 0, 0] = 5
    assert Restoration(loss=nn.L1Loss(), hole_loss=True).loss_of(raw, batch).item() == 5
    assert Restoration(loss=nn.L1Loss()).loss_of(raw, batch).item() == pytest.approx((15 + 5) / 16)


def test_a_model_that_fills_holes_asks_for_them_and_no_other_takes_them(program, photos, photo, capsys):
    program("fit", "--trainer.max_steps=1", config="inpaint.yaml")
    program("fit", "--trainer.max_steps=1")
    Image.fromarray(photo).save("a.png")
    inpaint, denoise = (f"runs/{name}/0/best.ckpt" for name in ("inpaint", "denoise"))
    with pytest.raises(UserError, match="give a mask"):
        img2img.load(inpaint)(torch.rand(1, 3, 8, 8))
    for flags, words in (
        (["--model", inpaint], "this model fills holes: say where with --mask"),
        (["--model", denoise, "--mask", "#ff00ff"], "takes no mask; leave out --mask"),
        (["--model", inpaint, "--mask", "#ff00"], "not of the form #rrggbb"),
        (["--model", inpaint, "--mask", "masks"], "the mask masks does not exist"),
    ):
        capsys.readouterr()
        with pytest.raises(SystemExit) as stop:
            main(["restore", "a.png", "out.png", *flags])
        assert stop.value.code == 2
        assert words in capsys.readouterr().err
    place = [f"--restore.input={photos}", "--restore.output=restored"]
    with pytest.raises(SystemExit):
        program("predict", "--ckpt_path=best", *place, config="inpaint.yaml")
    assert "--restore.mask" in capsys.readouterr().err
    assert not Path("out.png").exists()


@pytest.fixture
def inpainter(program) -> str:
    program("fit", "--trainer.max_steps=2", config="inpaint.yaml")
    return "runs/inpaint/0/best.ckpt"


def test_through_a_folder_nothing_outside_the_masks_changes(inpainter, photo, capsys):
    rng = np.random.default_rng(0)
    Path("in/sub").mkdir(parents=True)
    Path("masks/sub").mkdir(parents=True)
    images = {
        "a.png": photo[:50, :70],
        "sub/gray.png": photo[:31, :45, 0],
        "sub/deep.png": photo[:40, :30, 0].astype(np.uint16) * 257 + 3,
        "b.tif": photo[:33, :44],
    }
    holes = {}
    for name, pixels in images.items():
        Image.fromarray(pixels).save(f"in/{name}")
        holes[name] = rng.random(pixels.shape[:2]) < 0.3
        Image.fromarray((holes[name] * 255).astype(np.uint8)).save(Path("masks", name).with_suffix(".png"))
    Image.fromarray(photo[:9, :9]).save("in/lonely.png")
    with pytest.raises(SystemExit) as stop:
        main(["restore", "in", "out", "--model", inpainter, "--mask", "masks"])
    assert stop.value.code == 1
    assert "lonely.png: there is no mask" in capsys.readouterr().err
    for name, pixels in images.items():
        result, hole = np.array(Image.open(f"out/{name}")), holes[name]
        assert result.dtype == pixels.dtype
        np.testing.assert_array_equal(result[~hole], pixels[~hole], name)
        assert (result[hole] != pixels[hole]).mean() > 0.3, f"{name}: the holes were filled"


def test_holes_from_the_alpha_channel_and_from_a_colour(inpainter, photo):
    pixels, hole = photo[:40, :40].copy(), np.zeros((40, 40), bool)
    hole[10:15, 5:30] = True
    pixels[hole] = (255, 0, 255)
    Image.fromarray(np.dstack([pixels, np.where(hole, 0, 255).astype(np.uint8)])).save("alpha.png")
    Image.fromarray(pixels).save("colour.png")
    main(["restore", "alpha.png", "alpha_out.png", "--model", inpainter, "--mask", "alpha"])
    main(["restore", "colour.png", "colour_out.png", "--model", inpainter, "--mask", "#FF00ff"])
    alpha, colour = Image.open("alpha_out.png"), Image.open("colour_out.png")
    assert alpha.mode == "RGB", "filled, it is opaque"
    np.testing.assert_array_equal(np.array(alpha), np.array(colour))
    np.testing.assert_array_equal(np.array(colour)[~hole], pixels[~hole])
    assert not (np.array(colour)[hole] == (255, 0, 255)).all(1).any()
