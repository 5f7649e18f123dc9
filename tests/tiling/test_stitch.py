import numpy as np
import pytest
import torch
from torch import nn

from img2img.errors import UserError
from img2img.networks import BottleneckAutoencoder, InpaintingUNet, Padded, RestorationUNet
from img2img.tasks import Colorization, Inpainting, Restoration
from img2img.tiling.geometry import Cut, tiling_by_side
from img2img.tiling.planner import GIGABYTE, Planner
from img2img.tiling.stitch import Mosaic, kept, restore_in_tiles

TASKS = {
    "restoration": lambda: Restoration(RestorationUNet(channels=(8, 8), blocks=1)),
    "colorization": lambda: Colorization(RestorationUNet(1, 2, (8, 8), 1, shuffle=4, bias=True, residual=False)),
    "inpainting": lambda: Inpainting(InpaintingUNet(channels=(8, 8), blocks=1, levels=3)),
    "bottleneck": lambda: Restoration(BottleneckAutoencoder(channels=(8, 8))),
    "elsewhere": lambda: Restoration(Padded(nn.Sequential(nn.Conv2d(3, 8, 4, 4), nn.ConvTranspose2d(8, 3, 4, 4)), 4)),
}


@pytest.fixture
def image(photo):
    return torch.from_numpy(photo[:150, :203] / np.float32(255)).permute(2, 0, 1)[None]


def rough(task):
    """Random weights: new networks return their input, which hides seams."""
    generator = torch.Generator().manual_seed(0)
    for weight in task.network.parameters():
        with torch.no_grad():
            spread = weight[0].numel() ** -0.5 if weight.dim() > 1 else 0.05
            weight.copy_(torch.randn(weight.shape, generator=generator) * spread)
    return task.eval()


@pytest.mark.parametrize("ensemble", [False, True])
@pytest.mark.parametrize("name", TASKS)
def test_tiles_change_nothing(name, ensemble, image):
    task = rough(TASKS[name]())
    mask = (image[:, :1] < 0.4).float() if task.needs_mask else None
    cut = Planner(task).cut
    assert not cut.blend
    tiling = tiling_by_side(150, 203, cut, 48)
    assert len(list(tiling)) > 10
    with torch.inference_mode():
        whole = task.restore_tile(image, mask, ensemble)
        tiled = restore_in_tiles(task, image, mask, tiling, self_ensemble=ensemble)
    assert (whole - tiled).abs().max() <= 1e-5
    assert whole.std() > 0.01
    if ensemble and name == "restoration":
        assert (task.restore_tile(image) - whole).abs().max() > 1e-3


def test_too_small_a_halo_would_show(image):
    task = rough(TASKS["restoration"]())
    cut = Planner(task).cut
    with torch.inference_mode():
        tiled = restore_in_tiles(task, image, None, tiling_by_side(150, 203, Cut(cut.halo // 4, cut.stride), 48))
        assert (task.restore_tile(image) - tiled).abs().max() > 1e-3


def test_a_network_that_sees_everything_is_blended_without_seams(image):
    class Exposure(nn.Module):
        in_channels = 3

        def forward(self, x):
            return 0.5 * x + 0.3 - x.mean((2, 3), keepdim=True) / 4

    task = Restoration(Exposure()).eval()
    planner = Planner(task, tile=50)
    assert planner.cut.blend
    tiling = planner(150, 203)
    restored = restore_in_tiles(task, image, None, tiling)
    assert restored.shape == image.shape
    exposures = restored - 0.5 * image
    assert exposures.std() > 0.005  # tiles do differ
    assert exposures.diff(dim=3).abs().max() < 0.004  # yet nothing jumps where they meet
    assert exposures.diff(dim=2).abs().max() < 0.004
    flat = restore_in_tiles(task, torch.full_like(image, 0.5), None, tiling)
    torch.testing.assert_close(flat, torch.full_like(image, 0.425))


def test_upscaled_tiles_fit_together():
    image = torch.rand(1, 3, 50, 61, generator=torch.Generator().manual_seed(0))
    tiling = tiling_by_side(50, 61, Cut(3, 2), 16)
    mosaic, rows = Mosaic(tiling, 2), []
    larger = image.repeat_interleave(2, 2).repeat_interleave(2, 3)
    for row, column in tiling:
        down, across = tiling.rows[row], tiling.columns[column]
        tile = larger[..., 2 * down.start : 2 * down.stop, 2 * across.start : 2 * across.stop]
        band = mosaic.put(row, column, kept(tile, tiling, row, column, 2)[0].permute(1, 2, 0).numpy())
        if band is not None:
            rows.append(band.copy())
    np.testing.assert_array_equal(np.concatenate(rows), larger[0].permute(1, 2, 0))


def test_memory_decides_the_tiles_and_too_little_is_an_error():
    task = Restoration(RestorationUNet())
    small, large = Planner(task, memory=int(1.7 * GIGABYTE)), Planner(task, memory=4 * GIGABYTE)
    assert len(list(small(9000, 12000))) > len(list(large(9000, 12000))) > 1
    assert len(list(small(500, 700))) == 1
    with pytest.raises(UserError, match="larger --memory"):
        Planner(task, memory=int(1.29 * GIGABYTE))(9000, 12000)
    with pytest.raises(UserError, match="at least 1"):
        Planner(task, tile=0)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
def test_arrays_come_back_as_they_are(photo, dtype):
    task = Restoration(RestorationUNet(channels=(8, 8), blocks=1)).eval()  # a new network returns its input
    array = photo[:40, :50] if dtype == np.uint8 else (photo[:40, :50] / 255 * (65535 if dtype == np.uint16 else 1))
    array = array.astype(dtype)
    for given in (array, array[..., 0], array[..., :1]):
        restored = task.restore(given, tile=16)
        assert restored.dtype == dtype
        np.testing.assert_allclose(restored, given, atol=1e-6)
    with pytest.raises(UserError, match="H×W"):
        task.restore(array[None])
    with pytest.raises(UserError, match="uint8, uint16 or float32"):
        task.restore(array.astype(np.int64))
    mask = np.zeros((40, 50), np.uint8)
    mask[5:9, 5:9] = 255
    filled = rough(TASKS["inpainting"]()).restore(array, mask)
    assert np.array_equal(filled[mask == 0], array[mask == 0])
    assert not np.array_equal(filled, array)
