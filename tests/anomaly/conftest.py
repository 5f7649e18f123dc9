"""Calibrated models, made once for all tests of a process, and images to score."""

from pathlib import Path

import pytest

import img2img
from img2img.tasks import Autoencoder
from tests.anomaly.calibrated import (
    CONVOLUTIONAL,
    calibrated,
    calibrated_pca,
    shared_place,
    spotted_parts,
    training_images,
)
from tests.commands.models import save_task


@pytest.fixture(scope="session")
def trained_on(tmp_path_factory) -> Path:
    """The images that the models know; tests only read them."""
    return training_images(tmp_path_factory.mktemp("shared") / "trained-on")


@pytest.fixture(scope="session")
def linear_checkpoint(trained_on, tmp_path_factory) -> Path:
    with shared_place(tmp_path_factory) as folder:
        return save_task(folder / "linear.ckpt", calibrated_pca(trained_on))


@pytest.fixture(scope="session")
def convolutional_checkpoint(trained_on, tmp_path_factory) -> Path:
    with shared_place(tmp_path_factory) as folder:
        return save_task(folder / "convolutional.ckpt", calibrated(CONVOLUTIONAL, trained_on))


@pytest.fixture
def linear(linear_checkpoint) -> Autoencoder:
    """A linear autoencoder with the weights that PCA has."""
    return img2img.load(linear_checkpoint)


@pytest.fixture
def parts(tmp_path) -> Path:
    return spotted_parts(tmp_path / "parts")
