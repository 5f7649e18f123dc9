"""What tasks learn from real defects: where they are, and nothing about what they hide."""

from pathlib import Path

import pytest
import torch
from torch import nn

import img2img
from img2img.anomaly.calibration import calibrate
from img2img.data import CorruptedPairs
from img2img.errors import UserError
from img2img.networks import RestorationUNet
from img2img.tasks import AnomalySegmentation, Charbonnier, Restoration
from tests.anomaly.calibrated import CPU, pieces, spotted_parts


def batch_of(images: torch.Tensor) -> dict[str, object]:
    """Two images, the second with a real defect."""
    mask = torch.zeros(2, 1, *images.shape[-2:])
    mask[:, :, 4:9, 6:12] = 1
    real = torch.tensor([False, True])
    return {"input": images, "target": images, "mask": mask, "real": real, "path": ["a", "b"], "n": torch.arange(2)}


@pytest.mark.parametrize("loss", [nn.L1Loss(), nn.MSELoss(), Charbonnier()])
def test_the_restored_image_learns_nothing_where_a_real_defect_is(images, loss):
    task = AnomalySegmentation(RestorationUNet(3, 4, (8, 8), bias=True), loss=loss)
    batch = batch_of(images)
    raw = torch.cat([images + 0.1, torch.zeros(2, 1, 24, 32)], 1).requires_grad_()
    task.loss_of(raw, task._as_far_as_known(batch, raw)).backward()
    hidden = batch["mask"][1, 0].bool()
    assert (raw.grad[1, :3, hidden] == 0).all()
    assert (raw.grad[1, :3, ~hidden] != 0).all()
    assert (raw.grad[0, :3] != 0).all(), "a synthetic anomaly hides what is known"
    assert (raw.grad[:, 3] != 0).all(), "the mask is learned in both"


def test_a_task_without_a_mask_refuses_them(images):
    with pytest.raises(UserError, match=r"Restoration cannot learn from data\.defects, because it has no mask"):
        Restoration().training_step(batch_of(images), 0)


def test_fit_takes_them_and_score_knows_them(program, tmp_path):
    parts, given = spotted_parts(tmp_path / "parts"), spotted_parts(tmp_path / "given")
    for path in given.glob("good/*"):
        path.unlink()
    for path in (*given.glob("spot*/*"),):
        if path.stem not in ("00", "01"):
            path.unlink()
    good = pieces(tmp_path / "images", 12)
    program(
        *("fit", "--trainer.max_steps=2", f"--data.root={good}", f"--data.defects={given}", "--data.defect_share=0.5"),
        config="anomaly.yaml",
    )
    assert f"defects: {given}" in Path("runs/anomaly/0/config.yaml").read_text()
    scores = img2img.score(parts, None, "runs/anomaly/0/last.ckpt", accelerator="cpu", devices=1)
    assert [row["path"] for row in scores.rows if row["trained_on"]] == ["spot/00.jpg", "spot/01.jpg"]
    assert scores.verdicts.abnormal == 4, "those that were trained on do not count"


def test_calibration_keeps_them_apart_from_what_is_normal(tmp_path):
    good, given = pieces(tmp_path / "good", 12), spotted_parts(tmp_path / "given")
    task = AnomalySegmentation(RestorationUNet(1, 2, (8, 8), blocks=1, bias=True))
    with pytest.warns(UserWarning, match="without a mask"):
        calibrate(task, CorruptedPairs(str(good), channels=1, defects=str(given)), CPU)
    assert len(task.thresholds.fingerprints) == 10 + 6
    assert len(task.thresholds.scores["mask_top"].normal) == 1
