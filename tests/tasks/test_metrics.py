import math

import numpy as np
import pytest
import torch

from img2img.tasks.colour import chroma, luma
from img2img.tasks.metrics import (
    PSNR,
    SSIM,
    ChromaPSNR,
    Colorfulness,
    DeltaE2000,
    HolePSNR,
    Images,
    MaskPrecision,
    as_8_bit,
    psnr,
)


def tensor(pixels: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(pixels.astype(np.float32) / 255).permute(2, 0, 1)[None]


@pytest.fixture
def images(photo) -> Images:
    target = tensor(photo[:40, :60])
    output = as_8_bit(target + 0.05)
    mask = torch.zeros(1, 1, 40, 60)
    mask[..., 10:20, 10:30] = 1
    return Images(luma(target).expand_as(target), output, target, mask)


def test_psnr_is_the_definition_of_the_papers():
    rng = np.random.default_rng(0)
    a, b = (torch.from_numpy(rng.random((1, 3, 20, 30), np.float32)) for _ in range(2))
    expected = 10 * math.log10(1 / float(((a.double() - b.double()) ** 2).mean()))
    assert psnr(a, b) == pytest.approx(expected, abs=1e-4)
    assert psnr(a, a) == 100
    assert math.isnan(psnr(a * math.nan, b)), "what diverged must not pass for perfect"


def test_outputs_are_clamped_and_rounded_like_files():
    image = torch.tensor([-0.3, 0.0, 0.499 / 255, 0.501 / 255, 1.0, 7.0])
    assert (as_8_bit(image) * 255).tolist() == pytest.approx([0, 0, 0, 1, 255, 255])


def test_psnr_of_the_hole_looks_at_the_hole_alone(images):
    outside = images.output.clone()
    outside[..., :5, :5] = 0
    assert HolePSNR()(images) == HolePSNR()(images._replace(output=outside))
    assert PSNR()(images)["psnr"] > PSNR()(images._replace(output=outside))["psnr"]
    inside = images.output.clone()
    inside[..., 12:14, 12:14] = 0
    assert HolePSNR()(images)["psnr_hole"] > HolePSNR()(images._replace(output=inside))["psnr_hole"]
    assert HolePSNR()(images._replace(mask=torch.zeros_like(images.mask))) == {}


def test_chroma_psnr_sees_no_brightness(images):
    brighter = images.target * 0.9 + 0.05 * luma(images.target)  # chroma shrinks by a tenth
    values = ChromaPSNR()(images._replace(output=brighter))
    expected = 10 * math.log10(1 / float(((0.1 * chroma(images.target)) ** 2).mean()))
    assert values["psnr_chroma"] == pytest.approx(expected, abs=0.01)
    gray = ChromaPSNR()(images)["psnr_chroma_input"]
    assert gray == pytest.approx(10 * math.log10(1 / float((chroma(images.target) ** 2).mean())), abs=0.01)


def test_delta_e_is_zero_for_equal_images_and_counts_colour(images):
    equal = DeltaE2000()(images._replace(output=images.target))
    assert equal["delta_e"] == 0
    assert equal["delta_e_input"] > 3, "the input is gray"
    one_shade = torch.full((1, 3, 4, 4), 128 / 255)
    lighter = torch.full((1, 3, 4, 4), 129 / 255)
    value = DeltaE2000()(Images(lighter, lighter, one_shade, torch.zeros(1, 1, 4, 4)))["delta_e"]
    assert 0.2 < value < 0.5  # one level of gray is 0.39 in L*, of which CIEDE2000 makes less at mid-gray


def test_colorfulness_is_hasler_and_susstrunks(images):
    values = Colorfulness()(images._replace(output=luma(images.target).expand_as(images.target)))
    assert values["colorfulness"] == pytest.approx(0, abs=1e-3)
    red, green, blue = (images.target[0] * 255).numpy().astype(np.float64)
    rg, yb = red - green, 0.5 * (red + green) - blue
    expected = math.hypot(rg.std(), yb.std()) + 0.3 * math.hypot(rg.mean(), yb.mean())
    assert values["colorfulness_target"] == pytest.approx(expected, rel=1e-4)


def test_metrics_of_colour_say_nothing_of_gray_images():
    gray = Images(*[torch.rand(1, 1, 16, 16)] * 4)
    assert all(metric(gray) == {} for metric in (ChromaPSNR(), DeltaE2000(), Colorfulness()))


def test_ssim_needs_eleven_pixels(images):
    assert 0 < SSIM()(images)["ssim"] < 1
    assert SSIM()(Images(*(part[..., :10, :] for part in images[:4]))) == {}


def test_the_precision_of_a_mask_is_that_of_ranking_its_pixels():
    mask, found = torch.zeros(1, 1, 1, 4), torch.tensor([0.9, 0.8, 0.3, 0.1]).view(1, 1, 1, 4)
    mask[..., [0, 2]] = 1
    images = Images(*[torch.zeros(1, 3, 1, 4)] * 3, mask, found)
    assert MaskPrecision()(images)["pixel_ap"] == pytest.approx((1 + 2 / 3) / 2), "found first and third"
    assert MaskPrecision()(images._replace(mask=torch.zeros_like(mask))) == {}
    assert MaskPrecision()(images._replace(mask_found=None)) == {}
    assert MaskPrecision().caption({"pixel_ap": 0.5}) == "pixel AP 0.500"
    assert MaskPrecision().caption({"pixel_ap": 0.5, "auroc": 0.25}) == "AUROC 0.250, pixel AP 0.500"
    assert MaskPrecision().caption({"psnr": 30}) == ""


def test_captions_put_before_and_after_into_words():
    assert PSNR().caption({"psnr": 30.129, "psnr_input": 20}) == "PSNR 20.00 to 30.13 dB"
    assert DeltaE2000().caption({"delta_e": 8, "delta_e_input": 12.5}) == "CIEDE2000 12.50 to 8.00"
    assert HolePSNR().caption({"psnr": 30}) == ""
