"""How much of a restoration is kept."""

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

import img2img
from img2img.errors import UserError
from img2img.inference.strength import blend, enlarged
from img2img.tasks import Restoration
from tests.commands.models import FILLING, save_model

QUICK = {"accelerator": "cpu", "precision": "32-true", "memory": "2GB", "tile": 48}
COLOURING = {
    "class_path": "img2img.tasks.Colorization",
    "init_args": {
        "network": {
            "class_path": "img2img.networks.RestorationUNet",
            "init_args": {"channels": [8, 8], "blocks": 1, "in_channels": 1, "out_channels": 2, "bias": True,
                          "residual": False},
        }
    },
}  # fmt: skip


def luma(rgb: np.ndarray) -> np.ndarray:
    return rgb.astype(float) @ [0.299, 0.587, 0.114]


def pixels(path: str | Path) -> np.ndarray:
    found = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    assert found is not None
    return found.astype(float)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
def test_both_ends_are_exact_and_half_is_the_mean(photo, dtype):
    top = 1 if dtype == np.float32 else np.iinfo(dtype).max
    first = (photo / 255 * top).astype(dtype)
    second = first[::-1, :, ::-1].copy()
    assert np.array_equal(blend(first, second, 0.0), first)
    assert np.array_equal(blend(first, second, 1.0), second)
    half = blend(first, second, 0.5)
    assert half.dtype == dtype
    assert np.abs(half - (first.astype(float) + second) / 2).max() <= (0.5 if dtype != np.float32 else 1e-7)
    for strength in (0.3, 0.9, 1.5):
        assert np.array_equal(blend(first, first, strength), first), "what the model kept stays to the bit"


def test_above_one_every_pixel_keeps_its_hue_and_its_range(photo):
    gray = np.repeat(np.rint(luma(photo))[..., None], 3, axis=2).astype(np.uint8)
    more = blend(gray, photo, 1.5)
    assert np.abs(luma(more) - luma(gray)).max() < 1.3, "rounding of the three only"
    colour, wanted = more.astype(float) - luma(more)[..., None], photo.astype(float) - luma(photo)[..., None]
    assert np.abs(colour).sum() > 1.1 * np.abs(wanted).sum()
    assert (np.sign(np.rint(colour / 3)) * np.sign(np.rint(wanted / 3)) >= 0).all()


def test_a_map_says_where_how_much_and_holes_of_float_files_are_filled(photo):
    first, second = photo, 255 - photo
    share = np.zeros((320, 320, 1), np.float32)
    share[:, 100:200], share[:, 200:] = 0.25, 1
    mixed = blend(first, second, share)
    assert np.array_equal(mixed[:, :100], first[:, :100])
    assert np.array_equal(mixed[:, 200:], second[:, 200:])
    assert np.array_equal(mixed[:, 100:200], blend(first, second, 0.25)[:, 100:200])
    hole = np.full((4, 4, 1), np.nan, np.float32)
    assert np.array_equal(blend(hole, np.full_like(hole, 0.5), 0.6), np.full_like(hole, 0.5))


def test_a_part_is_enlarged_like_the_whole(photo):
    whole, part = enlarged(photo, 3), enlarged(photo[10:90, 20:80], 3)
    assert whole.shape == (960, 960, 3)
    inner = part[6:-6, 6:-6].astype(int) - whole[36 : 270 - 6, 66 : 240 - 6]
    assert np.abs(inner).max() <= 1


@pytest.fixture
def scans(photo) -> Path:
    """8 and 16 bits, gray, transparent, several pages."""
    folder = Path("in")
    folder.mkdir()
    Image.fromarray(photo[:100, :120]).save(folder / "a.png")
    Image.fromarray(np.dstack([photo[:60, :70], photo[:60, :70, 0]])).save(folder / "alpha.png")
    cv2.imwrite(str(folder / "deep.png"), photo[:70, :60, 0].astype(np.uint16) * 257 + 3)
    cv2.imwrite(str(folder / "deep.tif"), photo[:70, :90].astype(np.uint16) * 257 + 5)
    pages = [Image.fromarray(photo[at : at + 50, :50]) for at in (0, 50)]
    pages[0].save(folder / "pages.tif", save_all=True, append_images=pages[1:])
    return folder


def test_files_at_zero_are_the_input_to_the_bit_and_at_half_the_mean(scans, tmp_path):
    model = save_model(tmp_path / "model.ckpt", 0.05)
    for strength in (0, 0.5, 1):
        result = img2img.restore(scans, f"out{strength}", model, strength=strength, **QUICK)
        assert not result.failures
    for source in scans.iterdir():
        given, none, half, full = (pixels(Path(place, source.name)) for place in ("in", "out0", "out0.5", "out1"))
        assert np.array_equal(none, given), source
        assert np.abs(full - given).mean() > 1, "the model changes the image"
        assert np.abs(half - (given + full) / 2).max() <= 1, source
    pages = [np.array(page) for page in _pages("out0/pages.tif")]
    assert np.array_equal(pages, [np.array(page) for page in _pages("in/pages.tif")])


def _pages(path: str) -> list[Image.Image]:
    _, pages = cv2.imreadmulti(path, flags=cv2.IMREAD_UNCHANGED)
    return list(pages)


def test_known_pixels_and_the_luma_of_the_input_stay_at_any_strength(scans, tmp_path, photo):
    fill = save_model(tmp_path / "fill.ckpt", 0.1, recipe=FILLING)
    colour = save_model(tmp_path / "colour.ckpt", 0.1, recipe=COLOURING)
    mask = np.zeros((100, 120), np.uint8)
    mask[20:70, 30:90] = 255
    Image.fromarray(mask).save("mask.png")
    gray = photo[:100, :120, 0]
    Image.fromarray(gray).save("gray.png")
    given = pixels("in/a.png")
    for strength in (0.5, 1.0, 1.5):
        img2img.restore("in/a.png", f"filled{strength}.png", fill, mask="mask.png", strength=strength, **QUICK)
        assert np.array_equal(pixels(f"filled{strength}.png")[mask == 0], given[mask == 0])
        img2img.restore("gray.png", f"coloured{strength}.png", colour, strength=strength, **QUICK)
        back = np.array(Image.open(f"coloured{strength}.png").convert("L")).astype(int)
        assert np.abs(back - gray).max() <= 1
    half, full = (pixels(f"filled{strength}.png")[mask > 0] for strength in (0.5, 1.0))
    assert np.abs(half - (given[mask > 0] + full) / 2).max() <= 1, "what was in the hole shows through"
    spread = [np.ptp(pixels(f"coloured{strength}.png"), axis=2).mean() for strength in (0.5, 1.0, 1.5)]
    assert spread[0] < spread[1] < spread[2]


class Doubling(nn.Module):
    """Enlarges to the double, and makes everything darker."""

    scale, in_channels, receptive_field, stride = 2, 3, 1, 1

    def forward(self, image: torch.Tensor) -> torch.Tensor:
        return nn.functional.interpolate(image, scale_factor=2) * 0.5


def test_what_an_upscaler_makes_is_blended_with_the_enlarged_input(scans):
    task = Restoration(Doubling())
    for strength in (0.0, 0.5, 1.0):
        img2img.restore("in/a.png", f"{strength}.png", task, strength=strength, **QUICK)
    none, half, full = (pixels(f"{strength}.png") for strength in (0.0, 0.5, 1.0))
    assert none.shape == (200, 240, 3)
    bicubic = cv2.resize(pixels("in/a.png"), (240, 200), interpolation=cv2.INTER_CUBIC).clip(0, 255)
    assert np.abs(none - bicubic).max() <= 1, "also across tiles"
    assert np.abs(half - (none + full) / 2).max() <= 1


def test_maps_of_the_strength(scans, tmp_path, photo):
    model = save_model(tmp_path / "model.ckpt", 0.05)
    Path("maps").mkdir()
    share = np.zeros((100, 120), np.uint8)
    share[:, 40:80], share[:, 80:] = 128, 255
    Image.fromarray(share).save("maps/a.jpg", quality=100)
    Image.fromarray(share).save("maps/a.png")
    Path("maps/a.jpg").unlink()
    Image.fromarray(share).save("maps/alpha.png")
    img2img.restore(scans, "full", model, **QUICK)
    result = img2img.restore(scans, "out", model, strength_map="maps", **QUICK)
    reasons = {record.name: record.reason for record in result.failures}
    assert set(reasons) == {"alpha.png", "deep.png", "deep.tif", "pages.tif"}
    assert reasons["alpha.png"] == "in/alpha.png: its strength map maps/alpha.png is 120×100, the image 70×60"
    assert reasons["deep.png"] == "in/deep.png: there is no strength map of this name in maps"
    given, full, mixed = (pixels(f"{folder}/a.png") for folder in ("in", "full", "out"))
    assert np.array_equal(mixed[:, :40], given[:, :40])
    assert np.array_equal(mixed[:, 80:], full[:, 80:])
    assert np.abs(mixed - (given + 128 / 255 * (full - given)))[:, 40:80].max() <= 1
    with pytest.raises(UserError, match="are in the folder of images in and would be restored too"):
        img2img.restore(scans, "other", model, strength_map=scans, **QUICK)
    with pytest.raises(UserError, match="out is inside --strength_map maps"):
        img2img.restore(scans, "maps/out", model, strength_map="maps", **QUICK)


def test_another_strength_is_another_run(scans, tmp_path):
    model = save_model(tmp_path / "model.ckpt", 0.05)
    img2img.restore(scans, "out", model, strength=0.5, **QUICK)
    before = {path: path.read_bytes() for path in Path("out").glob("*.[pt]*")}
    with pytest.raises(UserError, match="exists, and 4 more of the outputs: give --skip_existing"):
        img2img.restore(scans, "out", model, strength=0.6, **QUICK)
    assert img2img.restore(scans, "out", model, strength=0.5, **QUICK).before == 5
    assert before == {path: path.read_bytes() for path in before}
    for wrong in (-0.1, 1.6, float("nan")):
        with pytest.raises(UserError, match=r"must be 0 to 1\.5"):
            img2img.restore(scans, "out", model, strength=wrong, **QUICK)
