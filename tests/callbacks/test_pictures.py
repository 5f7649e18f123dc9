"""Pictures reach each kind of logger."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from lightning.pytorch.loggers import CSVLogger, MLFlowLogger, TensorBoardLogger
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from img2img.callbacks.pictures import log_picture

STEP = 30


class LikeWandb:
    """A logger with the interface of W&B's for images."""

    def __init__(self) -> None:
        self.logged: list[tuple[str, np.ndarray, int]] = []

    def log_image(self, key: str, images: list[np.ndarray], step: int) -> None:
        self.logged += [(key, image, step) for image in images]


@pytest.fixture
def picture(photo):
    return photo[:40, :60]


def given(logger, picture) -> bytes:
    return log_picture(SimpleNamespace(loggers=[logger], global_step=STEP), "latents/samples", picture)


def test_tensorboard_gets_the_pixels_at_their_step(picture, tmp_path):
    logger = TensorBoardLogger(tmp_path)
    given(logger, picture)
    logger.experiment.flush()
    events = EventAccumulator(logger.log_dir)
    events.Reload()
    (image,) = events.Images("latents/samples")
    assert (image.step, image.height, image.width) == (STEP, 40, 60)
    (tmp_path / "shown.png").write_bytes(image.encoded_image_string)
    assert np.array_equal(Image.open(tmp_path / "shown.png"), picture)


def test_files_lie_beside_the_table_of_csv(picture, tmp_path):
    logger = CSVLogger(tmp_path)
    png = given(logger, picture)
    file = Path(logger.log_dir) / "pictures" / "latents" / "samples" / "0000030.png"
    assert file.read_bytes() == png
    assert np.array_equal(Image.open(file), picture)


def test_others_get_the_array(picture):
    logger = LikeWandb()
    given(logger, picture)
    ((key, image, step),) = logger.logged
    assert (key, step) == ("latents/samples", STEP)
    assert np.array_equal(image, picture)


def test_mlflow_gets_it_for_the_run(picture, monkeypatch):
    logged = {}
    client = SimpleNamespace(log_image=lambda run, image, key, step: logged.update({key: (run, image, step)}))
    monkeypatch.setattr(MLFlowLogger, "__init__", lambda self: None)
    monkeypatch.setattr(MLFlowLogger, "experiment", client)
    monkeypatch.setattr(MLFlowLogger, "run_id", "the run")
    given(MLFlowLogger(), picture)
    run, image, step = logged["latents/samples"]
    assert (run, step) == ("the run", STEP)
    assert np.array_equal(image, picture)


def test_a_run_with_csv_keeps_grids_settings_and_metrics(program):
    logger = {"class_path": "CSVLogger", "init_args": {"save_dir": "logs", "name": "mine"}}
    program("fit", "--trainer.max_steps=2", f"--trainer.logger={json.dumps(logger)}")
    folder = Path("logs/mine/version_0")
    assert "val/psnr" in (folder / "metrics.csv").read_text()
    assert "max_steps: 2" in (folder / "hparams.yaml").read_text()
    grid = folder / "pictures" / "reconstructions" / "0000002.png"
    assert grid.read_bytes() == Path("runs/denoise/0/grid.png").read_bytes()
