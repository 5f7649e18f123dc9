"""Shipped models are called by name, wherever a checkpoint is asked for."""

import warnings
from pathlib import Path

import pytest

import img2img.shipped
from img2img.errors import UserError
from img2img.shipped import find_model


@pytest.fixture
def shelf(tmp_path, monkeypatch) -> Path:
    """A shelf of two empty models."""
    weights = tmp_path / "package" / "weights"
    weights.mkdir(parents=True)
    for name in ("denoise", "inpaint"):
        (weights / f"{name}.safetensors").touch()
    monkeypatch.setattr(img2img.shipped, "_PACKAGE", weights.parent)
    return weights


def test_a_name_means_the_shipped_model(shelf):
    assert find_model("denoise") == shelf / "denoise.safetensors"


def test_a_file_of_that_name_does_not_shadow_it_in_silence(shelf):
    Path("denoise").mkdir()
    with pytest.warns(UserWarning, match=r"is the shipped model; the file of that name here is \./denoise"):
        assert find_model("denoise") == shelf / "denoise.safetensors"
    Path("inpaint").touch()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert find_model("./inpaint") == Path("inpaint")
        assert find_model(Path("inpaint")) == Path("inpaint")


def test_a_wrong_name_gets_the_names_there_are(shelf):
    with pytest.raises(FileNotFoundError, match=r"--model denoize does not exist; did you mean denoise\?"):
        find_model("denoize")
    with pytest.raises(FileNotFoundError, match="for the shipped model, give its name as a string, 'denoise'"):
        find_model(Path("denoise"))
    with pytest.raises(FileNotFoundError, match="the shipped models are denoise, inpaint"):
        find_model("xyz")


def test_a_folder_is_said_to_be_one(shelf):
    Path("runs/mine/0").mkdir(parents=True)
    Path("runs/mine/0/last.ckpt").touch()
    with pytest.raises(UserError, match=r"is a folder; give a checkpoint in it, such as runs/mine/0/last\.ckpt"):
        find_model("runs/mine/0")
