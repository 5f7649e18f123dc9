"""The second look of an `AnomalySegmentation`: images as a whole."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import img2img
from img2img.anomaly.calibration import calibrate
from img2img.anomaly.scorable import as_scorable
from img2img.anomaly.segmentation import ScorableSegmentation, errors_as_a_whole, spread_of
from img2img.data import CorruptedPairs
from img2img.networks import RestorationUNet
from img2img.tasks import AnomalySegmentation
from img2img.tasks.appearance import Appearance
from tests.conftest import STARTER

SIDE = 48


def pieces(count: int, first: int) -> list[np.ndarray]:
    """The same smooth scene in slightly other places: parts that look alike."""
    scene = np.array(Image.open(STARTER / "val" / "wine-1.png").convert("L").resize((96, 96)))
    return [scene[i % 5 : i % 5 + SIDE, i // 5 % 5 : i // 5 % 5 + SIDE] for i in range(first, first + count)]


@pytest.fixture(scope="module")
def calibrated(tmp_path_factory) -> AnomalySegmentation:
    """An untrained network, which finds nothing, calibrated on alike parts."""
    root = tmp_path_factory.mktemp("parts")
    for split, images in (("train", pieces(18, 0)), ("val", pieces(7, 18))):
        (root / split).mkdir()
        for i, image in enumerate(images):
            Image.fromarray(image).save(root / split / f"{i}.png")
    torch.manual_seed(0)
    task = AnomalySegmentation(RestorationUNet(1, 2, [8, 8], 1, bias=True))
    data = CorruptedPairs(root=str(root), channels=1, crop_size=16, batch_size=2, corruption=[], seed=0)
    calibrate(task, data)
    return task


def score(task: AnomalySegmentation, image: np.ndarray) -> dict[str, float]:
    batch = {"image": torch.from_numpy(image[None, None] / 255).float()}
    return {name: float(values[0]) for name, values in as_scorable(task).score_batch(batch).scores.items()}


def test_what_does_not_belong_to_a_part_raises_the_error_of_the_whole_and_the_combined_score(calibrated):
    part = pieces(1, 20)[0]
    spoiled = part.copy()
    spoiled[8:20, 8:20] = 255 - spoiled[8:20, 8:20]
    good, bad = score(calibrated, part), score(calibrated, spoiled)
    assert bad["whole_error"] > 3 * good["whole_error"]
    assert bad["combined"] > calibrated.thresholds.scores["combined"].threshold
    assert good["combined"] < bad["combined"]


def test_the_map_shows_where_an_image_as_a_whole_is_not_a_normal_one(calibrated):
    spoiled = pieces(1, 20)[0].copy()
    spoiled[8:20, 8:20] = 255 - spoiled[8:20, 8:20]
    found = as_scorable(calibrated).score_batch({"image": torch.from_numpy(spoiled[None, None] / 255).float()})
    for values in (found.maps[""][0], found.marks[0]):
        assert values.shape == (SIDE, SIDE)
        assert values.max() <= 1
        inside, outside = values[10:18, 10:18].mean(), values[30:, 30:].mean()
        assert inside > outside + 0.05  # the network, untrained, says the same everywhere


def test_a_part_seen_in_training_is_near_its_neighbour_and_new_ones_are_not(calibrated):
    seen, new = pieces(1, 3)[0], pieces(1, 20)[0]
    spoiled = seen.copy()
    spoiled[8:20, 8:20] = 255 - spoiled[8:20, 8:20]
    near, other, bad = (score(calibrated, image)["neighbour"] for image in (seen, new, spoiled))
    assert near == pytest.approx(0, abs=1e-5)
    assert near < other < bad
    brighter = np.minimum(seen * 1.02, 255).astype(np.uint8)
    assert score(calibrated, brighter)["neighbour"] < other


def test_the_combined_score_is_the_recommended_one_once_it_is_known(calibrated):
    scorable = as_scorable(calibrated)
    assert isinstance(scorable, ScorableSegmentation)
    assert scorable.recommended == "combined"
    new = as_scorable(AnomalySegmentation(RestorationUNet(1, 2, [8, 8], 1, bias=True)))
    assert new.recommended == "mask_top"
    assert "combined" not in new.score_batch({"image": torch.rand(1, 1, 20, 30)}).scores


def test_a_checkpoint_keeps_it(calibrated, tmp_path):
    saved: dict = {"state_dict": calibrated.state_dict()}
    calibrated.on_save_checkpoint(saved)
    torch.save(saved, tmp_path / "saved.pt")
    again = AnomalySegmentation(RestorationUNet(1, 2, [8, 8], 1, bias=True)).eval()
    again.load_state_dict(saved["state_dict"])
    again.on_load_checkpoint(torch.load(tmp_path / "saved.pt", weights_only=True))
    part = pieces(1, 3)[0]
    assert score(again, part) == score(calibrated, part)
    again.on_load_checkpoint({})
    assert again.appearance is None


def test_a_checkpoint_from_before_has_one_size(calibrated):
    plain = calibrated.appearance.plain()
    old = Appearance.from_plain({**plain["looks"][0], "spreads": plain["spreads"]})
    assert [len(look.error) for look in old.looks] == [32]
    part = torch.from_numpy(pieces(1, 3)[0][None, None] / 255).float()
    assert errors_as_a_whole(old, part)[0].shape == (1,)
    now, calibrated.appearance = calibrated.appearance, old
    found = as_scorable(calibrated).score_batch({"image": part})  # its map is the network's alone
    assert "neighbour" not in found.scores
    calibrated.appearance = now
    assert torch.equal(found.maps[""], calibrated.score_batch({"image": part}).maps[""])


def test_held_out_images_that_are_all_alike_do_not_divide_by_zero():
    centre, spread = spread_of(torch.tensor([0.01] * 3))
    assert centre == pytest.approx(np.log(0.01))
    assert spread > 0


def test_a_shipped_config_calibrates_it(program, photos):
    program("fit", "--trainer.max_steps=1", "--data.val_images=1", config="anomaly.yaml")
    task = img2img.load(Path("runs/anomaly/0/best.ckpt"))
    assert set(task.appearance.spreads) == {"mask_top", "whole_error"}
