from pathlib import Path

import numpy as np
import pytest
import torch
from torch.optim.swa_utils import AveragedModel

from img2img.callbacks import AveragedWeights
from img2img.callbacks.grid import Row, draw_grid
from img2img.callbacks.record import flatten, without_defaults
from img2img.imaging.drawing import MASKED, ROW_LINE, mark_mask
from img2img.trainer import best_precision, cpu_has_bf16


def row(photo, noise, n=0):
    target = torch.from_numpy(photo[:96, :144]).permute(2, 0, 1) / 255
    return Row(n, "wine.png · sigma25", target + noise, target, target)


def test_the_grid_shows_input_output_target_and_error(photo):
    torch.manual_seed(0)
    picture = draw_grid([row(photo, torch.randn(3, 96, 144) * 0.1)], error_scale=0.1)
    assert picture.shape[0] == 2 * ROW_LINE + 96 + 2 * 6
    assert picture.shape[1] == 4 * (144 + 6) + 6
    tiles = [picture[2 * ROW_LINE + 6 : 2 * ROW_LINE + 102, 6 + k * 150 : 150 + k * 150] for k in range(4)]
    np.testing.assert_array_equal(tiles[1], photo[:96, :144])
    np.testing.assert_array_equal(tiles[2], photo[:96, :144])
    assert np.abs(tiles[0].astype(int) - tiles[2]).mean() > 10
    assert tiles[3].max() == 0  # the output is the target: no error anywhere
    for line in (picture[:ROW_LINE], picture[ROW_LINE : 2 * ROW_LINE]):
        assert (line < 128).any(), "column names and captions are written"


def test_the_error_map_has_a_fixed_scale(photo):
    target = torch.from_numpy(photo[:96, :144]).permute(2, 0, 1) / 255 * 0.5
    half = Row(0, "t", target, target + 0.05, target)
    picture = draw_grid([half], error_scale=0.1)
    assert picture[2 * ROW_LINE + 6 : 2 * ROW_LINE + 102, 6 + 3 * 150 : 150 + 3 * 150].mean() == pytest.approx(
        127.5, abs=1
    )


def test_sigma_has_the_scale_of_the_error(photo):
    target = torch.from_numpy(photo[:96, :144]).permute(2, 0, 1) / 255
    picture = draw_grid([Row(0, "t", target, target, target, torch.full_like(target, 0.05))], error_scale=0.1)
    assert picture.shape[1] == 5 * (144 + 6) + 6
    assert picture[2 * ROW_LINE + 6 : 2 * ROW_LINE + 102, 6 + 4 * 150 : 150 + 4 * 150].mean() == pytest.approx(
        127.5, abs=1
    )


def test_a_mask_stands_beside_the_one_that_was_found(photo):
    target = torch.from_numpy(photo[:96, :144]).permute(2, 0, 1) / 255
    mask, found = torch.zeros(1, 96, 144), torch.full((1, 96, 144), 0.25)
    mask[:, 20:40, 50:80] = 1
    picture = draw_grid([Row(0, "t", target, target, target, mask=mask, mask_found=found)], error_scale=0.1)
    assert picture.shape[1] == 6 * (144 + 6) + 6
    tiles = [picture[2 * ROW_LINE + 6 : 2 * ROW_LINE + 102, 6 + k * 150 : 150 + k * 150] for k in (4, 5)]
    np.testing.assert_array_equal(tiles[0][..., 0], 255 * mask[0].numpy())
    assert (tiles[1] == 64).all()


def test_rows_of_different_sizes_and_gray_rows_share_a_grid(photo):
    gray = torch.from_numpy(photo[:40, :40, :1]).permute(2, 0, 1) / 255
    picture = draw_grid([row(photo, 0.0), Row(1, "gray.png", gray, gray, gray)], 0.1)
    assert picture.shape == (3 * ROW_LINE + 96 + 3 * 40 + 4 * 6, 4 * 150 + 6, 3), "small images are enlarged"


def test_holes_are_marked_in_the_input(photo):
    image = torch.from_numpy(photo[:40, :40]).permute(2, 0, 1) / 255
    mask = torch.zeros(1, 40, 40)
    assert mark_mask(image, mask) is image
    mask[:, 5:9, 5:9] = 1
    marked = mark_mask(image, mask)
    assert torch.equal(marked[:, mask[0] == 0], image[:, mask[0] == 0])
    assert (marked[:, 5, 5] - torch.tensor(MASKED)).abs().max() < 1e-6
    assert mark_mask(image[:1], mask).shape == (3, 40, 40), "gray images show it in colour too"


def test_averaging_follows_its_formula():
    callback = AveragedWeights(decay=0.9)
    model = torch.nn.Linear(1, 1, bias=False).double()
    averaged = AveragedModel(model, **callback._kwargs)
    expected = None
    for step in range(200):
        with torch.no_grad():
            model.weight.fill_(float(step))
        averaged.update_parameters(model)
        decay = min(0.9, (1 + step) / (10 + step))
        expected = float(step) if expected is None else decay * expected + (1 - decay) * step
    assert averaged.module.weight.item() == pytest.approx(expected)
    with pytest.raises(ValueError, match="decay"):
        AveragedWeights(1.0)


def test_settings_become_flat_and_readable():
    config = {"model": {"class_path": "img2img.tasks.Restoration", "init_args": {"lr": 0.1, "betas": [0.9, 0.99]}}}
    assert flatten(config) == {"model": "Restoration", "model.lr": 0.1, "model.betas": "[0.9, 0.99]"}


def test_settings_at_their_defaults_are_left_out_also_those_of_bases():
    noise = {"class_path": "img2img.corruptions.GaussianNoise", "init_args": {"sigma": [0, 30], "p": 1.0}}
    arguments = {"root": "starter", "crop_size": 128, "batch_size": 5, "corruption": [noise]}
    kept = without_defaults({"data": {"class_path": "img2img.data.CorruptedPairs", "init_args": arguments}})
    assert kept["data"]["init_args"] == {"batch_size": 5, "corruption": [noise | {"init_args": {"sigma": [0, 30]}}]}


def test_auto_precision_is_bfloat16_only_where_the_hardware_has_it(monkeypatch):
    flags = Path("/proc/cpuinfo").read_text() if torch.backends.cpu.get_cpu_capability() != "DEFAULT" else ""
    if flags:
        assert cpu_has_bf16() == ("avx512_bf16" in flags or "amx_tile" in flags)
    monkeypatch.setattr("img2img.trainer.cpu_has_bf16", lambda: True)
    assert best_precision("cpu") == "bf16-mixed"
    monkeypatch.setattr("img2img.trainer.cpu_has_bf16", lambda: False)
    assert best_precision("cpu") == "32-true"
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("torch.cuda.is_bf16_supported", lambda including_emulation: True)
    assert best_precision("auto") == best_precision("gpu") == "bf16-mixed"
