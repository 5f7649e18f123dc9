"""Masks, references and pictures for the page: what is decoded beside the images keeps within `--memory` too."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import img2img
from img2img.imaging.bmp import BmpRows
from img2img.imaging.reading import RowReader, open_rows
from img2img.inference import references, thumbnails
from img2img.inference.beside import counted
from img2img.inference.jobs import list_jobs
from img2img.inference.masks import mask_finder
from img2img.inference.references import References, scores
from img2img.inference.thumbnails import thumbnail
from img2img.tasks.metrics import PSNR, SSIM, Images, as_8_bit
from img2img.tiling.planner import PROGRAM, Planner
from tests.commands.models import FILLING, RECIPE, save_model
from tests.commands.restoring import code_of
from tests.imaging.samples import rle_bmp

SIDE = 9000
WHOLE = "because their format, or that of their mask or reference, is decoded or encoded whole, but only 1.4 GB"


@pytest.fixture
def large(tmp_path) -> Path:
    """A photograph of few bytes that streams."""
    (tmp_path / "in").mkdir()
    Image.new("L", (SIDE, SIDE), 90).save(tmp_path / "in" / "large.png", compress_level=1)
    (tmp_path / "beside").mkdir()
    return tmp_path


@pytest.fixture
def _never_whole(monkeypatch):
    """What decodes a whole BMP fails the test."""
    monkeypatch.setattr(BmpRows, "_whole", property(lambda rows: pytest.fail("it has been decoded")))


@pytest.mark.usefixtures("_never_whole")
def test_a_mask_that_would_not_fit_is_refused_with_what_would_be_enough(large, capsys):
    (large / "beside" / "large.bmp").write_bytes(rle_bmp(SIDE))
    model = save_model(large / "model.ckpt", recipe=FILLING)
    argv = ["restore", str(large / "in"), str(large / "out"), f"--model={model}", "--accelerator=cpu"]
    argv += [f"--mask={large / 'beside'}", "--memory=1400MB"]
    said = f"{SIDE}×{SIDE} pixels need 1.5 GB of memory, {WHOLE} may be used; give --memory 1."
    assert code_of([*argv, "--dry_run"]) == 0
    assert said in capsys.readouterr().out
    assert code_of(argv) == 1
    assert said in capsys.readouterr().err
    assert not list((large / "out").glob("*.png"))


def test_a_mask_counts_as_its_image(photos, tmp_path):
    masks = tmp_path / "masks"
    masks.mkdir()
    images = sorted((photos / "val").glob("*.png"))
    Image.new("L", (64, 48)).save(masks / f"{images[0].stem}.webp")
    Image.new("L", (64, 48)).save(masks / f"{images[1].stem}.png")
    jobs = list_jobs([photos / "val"], tmp_path / "out")
    found = counted(jobs, mask_finder(str(masks), [photos / "val"]), None)
    assert [job.header.held for job in found] == [int(2.7 * 3 * 64 * 48), 0]
    assert counted(jobs, None, None) == jobs


@pytest.mark.usefixtures("_never_whole")
def test_a_reference_that_would_not_fit_is_not_read_but_the_image_is_restored(tmp_path, photo, capsys):
    (tmp_path / "in").mkdir()
    (tmp_path / "beside").mkdir()
    for name in ("a", "b", "c"):
        Image.fromarray(photo[:60, :60]).save(tmp_path / "in" / f"{name}.png")
    Image.fromarray(photo[:60, :60]).save(tmp_path / "beside" / "a.png")
    (tmp_path / "beside" / "b.bmp").write_bytes(rle_bmp(20_000))  # of another size
    (tmp_path / "beside" / "c.bmp").write_bytes(rle_bmp(60))
    model = save_model(tmp_path / "model.ckpt")
    argv = ["restore", str(tmp_path / "in"), str(tmp_path / "out"), f"--model={model}", "--accelerator=cpu"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(BmpRows, "held", 200_000_000)
        assert code_of([*argv, f"--reference={tmp_path / 'beside'}", "--memory=1400MB"]) == 0
    shown = capsys.readouterr()
    assert "Restored 3 image(s)" in shown.out
    assert "PSNR: 100.000 (mean of 1 images)" in shown.out
    (line,) = [line for line in shown.err.splitlines() if "GB" in line]
    assert line.startswith("restored, but not scored or shown: ")
    assert f"c.png: 60×60 pixels need 1.5 GB of memory, {WHOLE} may be used; give --memory 1." in line


def test_a_reference_counts_as_its_image_if_it_is_read(tmp_path, photo):
    (tmp_path / "in").mkdir()
    (tmp_path / "beside").mkdir()
    Image.fromarray(photo[:60, :60]).save(tmp_path / "in" / "a.png")
    Image.fromarray(photo[:60, :60]).save(tmp_path / "beside" / "a.webp")
    jobs = list_jobs([tmp_path / "in"], tmp_path / "out")
    held = int(2.7 * 3 * 60 * 60)
    for memory, expected in ((2e9, held), (PROGRAM + held / 2, 0)):
        planner = Planner(img2img.build(RECIPE), memory=int(memory), limit=int(memory), tile=16)
        found = counted(jobs, None, References(tmp_path / "beside", jobs, planner))
        assert [job.header.held for job in found] == [expected]


@pytest.mark.parametrize("size", [(320, 320), (11, 11), (57, 11), (11, 40), (10, 40), (1, 1)])
@pytest.mark.parametrize("channels", [1, 3])
def test_scores_of_strips_are_those_of_the_whole_image(tmp_path, photo, monkeypatch, size, channels):
    monkeypatch.setattr(references, "_STRIP", 1)  # strips as low as they get
    monkeypatch.setattr(references, "_COLUMNS", 13)
    truth = photo[: size[0], : size[1]]
    restored = np.roll(truth, 1, 0) // 2 + 20
    if channels == 1:
        truth, restored = truth[..., :1], restored[..., :1]
    for name, pixels in (("truth", truth), ("restored", restored)):
        Image.fromarray(pixels.squeeze(2) if channels == 1 else pixels).save(tmp_path / f"{name}.png")
    with open_rows(tmp_path / "restored.png") as one, open_rows(tmp_path / "truth.png") as other:
        found = scores(one, other)
    tensors = [torch.from_numpy(each / np.float32(255)).permute(2, 0, 1)[None] for each in (restored, truth)]
    images = Images(tensors[0], as_8_bit(tensors[0]), tensors[1], torch.zeros_like(tensors[0][:, :1]))
    expected = {"PSNR": PSNR()(images)["psnr"]}
    if min(size) >= 11:
        expected["SSIM"] = SSIM()(images)["ssim"]
    assert found == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("suffix", [".bmp", ".avif", ".ppm"])
@pytest.mark.parametrize("side", [50, 100, 2000])
def test_pictures_of_files_that_libvips_does_not_stream_are_made_from_strips(
    tmp_path, photo, monkeypatch, suffix, side
):
    image = Image.fromarray(photo).resize((1277, 953))
    for name in (f"a{suffix}", "a.png"):
        image.save(tmp_path / name, **({"quality": 95} if name.endswith("avif") else {}))
    read, asked = RowReader.read, []
    monkeypatch.setattr(RowReader, "read", lambda reader, rows: asked.append(rows) or read(reader, rows))
    (tmp_path / "strips.jpg").write_bytes(thumbnail(tmp_path / f"a{suffix}", side))
    assert 0 < max(asked) <= thumbnails._STRIP
    (tmp_path / "stream.jpg").write_bytes(thumbnail(tmp_path / "a.png", side))
    strips, stream = (np.asarray(Image.open(tmp_path / f"{name}.jpg")).astype(int) for name in ("strips", "stream"))
    assert strips.shape == stream.shape
    assert np.abs(strips - stream).mean() < 3


def test_hidden_colours_of_transparent_pixels_do_not_bleed_into_a_picture():
    pixels, alpha = np.zeros((8, 9, 3), np.uint8), np.zeros((8, 9, 1), np.uint8)
    pixels[:, ::2], alpha[:, ::2] = (200, 60, 40), 255
    pixels[:, 1::2] = (0, 255, 0)  # green, were it not transparent
    small = thumbnails._smaller(pixels, alpha, 4)
    assert small.shape == (2, 3, 4)
    assert np.abs(small[..., :3].astype(int) - (200, 60, 40)).max() <= 1
    assert small[..., 3].mean() == pytest.approx(5 / 9 * 255, abs=1)
