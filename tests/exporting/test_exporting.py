"""Exported files do what the model does, say how they are used, and are not left if they differ."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
from torch import nn

import img2img
from img2img.errors import UserError
from img2img.exporting.contract import KEY
from img2img.exporting.core import contract_of
from img2img.exporting.runner import ExportedNetwork
from img2img.exporting.sessions import open_session
from img2img.networks import Padded
from img2img.tasks import Restoration, Task
from img2img.tasks.thresholds import HeldOut, Thresholds
from tests.exporting.models import (
    Deciding,
    Doubling,
    Random,
    autoencoder,
    changed,
    colouriser,
    denoiser,
    filler,
    segmenter,
    uncertain,
)
from tests.pages import ROOT


def run(path: Path, image: torch.Tensor) -> torch.Tensor:
    network = ExportedNetwork(path, open_session(path, 1)[1])
    with torch.inference_mode():
        output: torch.Tensor = network(image)
    return output


@pytest.mark.parametrize("name", ["a.onnx", "a.pt2", pytest.param("a.xml", marks=pytest.mark.slow)])
def test_a_file_restores_images_of_any_size_as_torch_does(name):
    task = denoiser()
    done = img2img.export(task, name)
    assert done.parity.images == 20
    assert done.parity.whole <= 1e-4
    assert done.parity.tiled is not None
    assert done.parity.tiled <= 1e-4
    for size in ((1, 1), (33, 50), (64, 3)):
        image = torch.rand(2, 3, *size)
        assert torch.allclose(run(Path(name), image), task(image), atol=1e-5)
    made = {Path(name), Path(name).with_suffix(".bin")} if name == "a.xml" else {Path(name)}
    assert {path for path in Path().iterdir()} == made  # nothing temporary stays
    assert done.size == sum(path.stat().st_size for path in made)
    for path in made:
        assert str(ROOT).encode() not in path.read_bytes(), "the file names a folder of this machine"


def test_the_contract_is_in_the_file():
    task = denoiser()
    done = img2img.export(task, "a.onnx")
    session = onnxruntime.InferenceSession("a.onnx")
    contract = json.loads(session.get_modelmeta().custom_metadata_map[KEY])
    field = task.receptive_field
    assert (contract["halo"], contract["stride"], contract["multiple"]) == (field.radius, field.stride, field.stride)
    assert contract["input_channels"] == contract["output_channels"] == ["red", "green", "blue"]
    assert (contract["task"], contract["scale"], contract["range"]) == ("Restoration", 1, [0, 1])
    assert (contract["mask"], contract["size"], contract["thresholds"]) == (False, None, {})
    assert contract["version"] == img2img.__version__
    assert 16 <= contract["bytes_per_pixel"] < 5000
    other = contract_of(changed(denoiser(), 0.05), "float32")
    assert contract["weights"] == done.contract.weights != other.weights
    batch, channels, *sides = session.get_inputs()[0].shape
    assert (batch, channels) == (1, 3)
    assert all(side.startswith("4*") for side in sides)  # free, as multiples of the stride


@pytest.mark.slow
def test_float16_stays_close():
    task = denoiser()
    done = img2img.export(task, "half.onnx", precision="float16")
    assert 0 < done.parity.whole <= done.tolerance == 5e-3
    assert done.contract.precision == "float16"
    full = img2img.export(task, "full.onnx")
    weights = sum(weight.numel() for weight in task.network.parameters())
    assert full.size - done.size > 1.8 * weights  # bytes: half of four each


def test_sigma_is_three_channels_of_its_own():
    image = torch.rand(1, 3, 20, 30)
    task = uncertain()
    done = img2img.export(task, "u.onnx")
    assert done.contract.output_channels[3:] == ("sigma_red", "sigma_green", "sigma_blue")
    assert torch.allclose(run(Path("u.onnx"), image), torch.cat(task.estimate(image), 1), atol=1e-5)


def with_threshold() -> Task:
    task = segmenter()
    task.thresholds = Thresholds({"mask_max": HeldOut(torch.rand(3), 0.95, 0.25)})
    return task


def test_probability_is_a_channel_with_a_threshold():
    contract = contract_of(with_threshold(), "float32")
    assert contract.output_channels == ("gray", "anomaly")
    assert contract.thresholds == {"mask_max": 0.25}


@pytest.mark.slow
def test_probability_in_a_file_is_that_of_torch():
    task, gray = with_threshold(), torch.rand(1, 1, 20, 30)
    assert img2img.export(task, "s.onnx").contract.thresholds == {"mask_max": 0.25}
    assert torch.allclose(run(Path("s.onnx"), gray), torch.cat(task.segment(gray), 1), atol=1e-5)


def test_colour_comes_with_the_luma_of_the_input():
    task, gray = colouriser(), torch.rand(1, 1, 21, 30)
    contract = img2img.export(task, "c.onnx").contract
    assert (contract.input_channels, contract.output_channels) == (("gray",), ("red", "green", "blue"))
    assert torch.allclose(run(Path("c.onnx"), gray), task(gray), atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["f.onnx", "f.xml"])
def test_an_inpainter_takes_the_mask_as_a_channel_and_keeps_what_is_known(name):
    task, image = filler(), torch.rand(1, 3, 37, 50)
    mask = (torch.rand(1, 1, 37, 50) < 0.4).float()
    contract = img2img.export(task, name).contract
    assert contract.mask
    assert contract.input_channels == ("red", "green", "blue", "mask")
    filled = run(Path(name), torch.cat([image, mask], 1))
    assert torch.equal(filled[~mask.bool().expand_as(image)], image[~mask.bool().expand_as(image)])
    assert torch.allclose(filled, task(image, mask), atol=1e-5)


def test_an_autoencoder_keeps_its_one_size():
    task = autoencoder()
    done = img2img.export(task, "a.onnx")
    assert (done.contract.size, done.contract.halo, done.parity.tiled) == ((20, 12), None, None)
    image = torch.rand(1, 1, 20, 12)
    assert torch.allclose(run(Path("a.onnx"), image), task(image), atol=1e-5)


@pytest.mark.slow
def test_networks_of_others_can_be_exported():
    enlarging = changed(Restoration(Doubling()))
    done = img2img.export(enlarging, "x2.onnx")
    assert (done.contract.scale, done.contract.halo) == (2, 1)
    padded = Restoration(Padded(nn.Sequential(nn.AvgPool2d(4), nn.Upsample(scale_factor=4)), 4)).eval()
    done = img2img.export(padded, "padded.onnx")
    assert done.contract.multiple == 4
    image = torch.rand(1, 3, 9, 13)
    assert torch.allclose(run(Path("padded.onnx"), image), padded(image), atol=1e-5)


def test_a_file_that_differs_is_not_left():
    Path("r.onnx").write_bytes(b"an older file")
    with pytest.raises(UserError, match=r"r\.onnx was not written: it differs from torch by 0\.\d+, more than 0\.0001"):
        img2img.export(Restoration(Random()).eval(), "r.onnx", overwrite=True)
    assert Path("r.onnx").read_bytes() == b"an older file"
    assert len(list(Path().iterdir())) == 1


def test_a_network_that_cannot_be_exported_ends_in_one_line():
    with pytest.raises(UserError, match=r"the network Deciding cannot be exported by torch\.export: .+") as caught:
        img2img.export(Restoration(Deciding()).eval(), "d.onnx")
    assert "\n" not in str(caught.value)
    assert not list(Path().iterdir())


def test_nothing_is_replaced_unless_that_is_asked_for():
    Path("a.xml").write_bytes(b"mine")
    with pytest.raises(UserError, match=r"a\.xml is there already; give --overwrite"):
        img2img.export(denoiser(), "a.xml")
    Path("b.bin").write_bytes(b"mine")
    with pytest.raises(UserError, match=r"b\.bin is there already"):
        img2img.export(denoiser(), "b.xml")
    assert Path("a.xml").read_bytes() == Path("b.bin").read_bytes() == b"mine"
    img2img.export(denoiser(), "a.xml", overwrite=True)
    assert np.isfinite(run(Path("a.xml"), torch.rand(1, 3, 8, 8)).numpy()).all()


def test_the_suffix_says_what_is_written():
    with pytest.raises(UserError, match=r"must end in \.onnx, \.pt2, \.xml"):
        img2img.export(denoiser(), "model.mnn")
