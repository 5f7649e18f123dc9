"""A model that is no autoencoder is calibrated, scores images and draws maps as one does."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

import img2img
from img2img.anomaly.autoencoder import ScorableAutoencoder
from img2img.anomaly.calibration import calibrate, calibrate_checkpoint
from img2img.anomaly.scorable import Scorable, as_scorable, by_image, open_scorable
from img2img.cli import main
from img2img.errors import UserError
from img2img.tasks import Task
from img2img.tasks.base import Batch
from img2img.tasks.checkpoint import CHECKPOINT_KEY
from img2img.tasks.thresholds import Scored, Thresholds
from tests.anomaly.calibrated import CPU, pieces, whole
from tests.commands.models import save_model, save_task

BRIGHT = {"class_path": "tests.anomaly.test_scorable.BrightSpots", "init_args": {}}


class BrightSpots(Task):
    """A pixel is as abnormal as it is brighter than the brightest of the training images, whatever their size."""

    recommended = "brightest"
    image_size = None

    def __init__(self) -> None:
        super().__init__(nn.Conv2d(1, 1, 1))
        self.register_buffer("highest", torch.zeros(()))
        self.thresholds = Thresholds()

    def score_batch(self, batch: Batch) -> Scored:
        above = (batch["image"].mean(1) - self.highest).clamp_min(0)
        return Scored({"brightest": above.flatten(1).amax(1), "mean": above.flatten(1).mean(1)}, {"": above})

    def measure_training(self, data: Any, where: Any, freeze: bool) -> None:
        if freeze:
            data.clean_images("train", 100)
            self.highest.fill_(float(max(images.max() for images in data.targets("train"))))

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        super().on_save_checkpoint(checkpoint)
        checkpoint[CHECKPOINT_KEY]["statistics"] = self.thresholds.plain()

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        super().on_load_checkpoint(checkpoint)
        self.thresholds = Thresholds.from_plain(checkpoint[CHECKPOINT_KEY]["statistics"])


@pytest.fixture
def root(tmp_path) -> Path:
    """Pieces of a photograph, a third as bright as it is."""
    for split, count, first in (("train", 4, 0), ("val", 10, 20)):
        for path in pieces(tmp_path / "normal" / split, count, first).iterdir():
            Image.fromarray(np.array(Image.open(path)) // 3).save(path)
    return tmp_path / "normal"


def test_it_is_calibrated_and_scores_images_in_their_own_size(root, parts):
    task = img2img.build(BRIGHT, trust=["tests"])
    save_task(Path("m.ckpt"), task)
    calibrate_checkpoint(Path("m.ckpt"), task, whole(root), CPU, freeze=True)
    again = img2img.load("m.ckpt", trust=["tests"])
    assert again.highest == task.highest > 0
    assert list(again.thresholds.scores) == ["brightest", "mean"]
    assert len(again.thresholds.scores["brightest"].normal) == 10
    assert list(again.thresholds.pixels) == ["map", "marks"]

    scores = img2img.score(parts, "out.csv", "m.ckpt", maps="maps", trust=["tests"], accelerator="cpu", devices=1)
    assert scores.recommended == "brightest"
    assert scores.held_out == 10
    assert Path("out.csv").read_text().startswith("path,label,brightest,mean,abnormal,trained_on,near_duplicate\n")
    assert all(row["abnormal"] and not row["trained_on"] for row in scores.rows if row["label"] == "spot")
    assert scores.verdicts.misses == 0
    assert scores.table["spot"]["pixels"].auroc > 0.9
    assert "pca_pixels" not in scores.table["spot"]
    for row in scores.rows[:6]:
        pixels = np.array(Image.open(parts / row["path"])) / 255
        assert row["brightest"] == pytest.approx(max(0, pixels.max() - float(task.highest)), abs=1e-5), "not scaled"
    values = np.array(Image.open("maps/spot/00.map.png")) / 65535
    assert values.shape == (32, 42)
    assert values[12, 25] == pytest.approx((1 - float(task.highest)) ** 0.5, abs=0.02)
    assert "times its mean" not in Path("maps/README.txt").read_text(), "its maps compare between images"


def test_a_file_that_cannot_be_read_does_not_stop_the_others(root, parts):
    (parts / "good" / "broken.png").write_bytes(b"no image")
    task = img2img.build(BRIGHT, trust=["tests"])
    calibrate(task, whole(root), CPU)
    scores = img2img.score(parts, None, task, maps="maps", accelerator="cpu", devices=1)
    assert len(scores.rows) == 12
    assert ["broken.png" in problem for problem in scores.problems] == [True]


def test_a_task_with_these_members_is_scorable_and_an_autoencoder_gets_them(linear, tmp_path):
    task = img2img.build(BRIGHT, trust=["tests"])
    assert as_scorable(task) is task
    assert not isinstance(linear, Scorable)
    assert isinstance(as_scorable(linear), ScorableAutoencoder)
    assert isinstance(as_scorable(linear), Scorable)
    with pytest.raises(UserError, match=r"m\.ckpt \(Restoration\) does not say how abnormal images are"):
        open_scorable(save_model(tmp_path / "m.ckpt"))


def test_a_given_model_is_copied_and_stays_as_it_is(linear):
    copy, scorable = open_scorable(linear.train())
    assert linear.training
    assert not copy.training
    before = linear.statistics
    scorable.thresholds = Thresholds()
    assert copy.statistics.thresholds.scores == {}
    assert linear.statistics is before


def test_scores_are_taken_apart_by_image():
    found = by_image({"a": torch.tensor([1.0, 2.0]), "b": torch.tensor([3.0, 4.0])})
    assert found == [{"a": 1, "b": 3}, {"a": 2, "b": 4}]


def test_anomaly_segmentation_is_calibrated_when_fit_ends_and_scores_without_pca(program, root, parts, capsys):
    steps = ["--trainer.max_steps=2", "--data.val_images=2", f"--data.root={root}"]
    program("fit", *steps, config="anomaly.yaml")
    capsys.readouterr()
    main(["score", str(parts), "out.csv", "--model=runs/anomaly/0/best.ckpt", "--maps=maps", "--accelerator=cpu"])
    said = capsys.readouterr().out
    assert "10 held-out normal image(s)" in said, "all of them, not only those that validations take"
    assert "combined above" in said
    assert "PCA" not in said
    header, *lines = Path("out.csv").read_text().splitlines()
    names = ["mask_max", "mask_top", "error_max", "whole_error", "combined", "neighbour"]
    assert header.split(",") == ["path", "label", *names, "abnormal", "trained_on", "near_duplicate"]
    assert len(lines) == 12
    for name in ("spot/00", "good/00"):
        image = Image.open(next(parts.glob(f"{name}.*")))
        assert Image.open(f"maps/{name}.map.png").size == Image.open(f"maps/{name}.overlay.png").size == image.size
    last = img2img.load("runs/anomaly/0/last.ckpt")
    assert len(last.thresholds.scores["mask_max"].normal) == 10
    assert last.thresholds.pixels["map"].value > 0
