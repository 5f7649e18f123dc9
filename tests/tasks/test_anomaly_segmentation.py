import math

import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch import nn

import img2img
from img2img.errors import UserError
from img2img.networks import RestorationUNet
from img2img.tasks import AnomalySegmentation, FocalDice
from img2img.tasks.anomaly_segmentation import SCORES
from img2img.tasks.checkpoint import CHECKPOINT_KEY
from img2img.tasks.thresholds import HeldOut, Threshold, Thresholds
from img2img.tiling.planner import PROGRAM
from tests.commands.models import save_task

RECIPE = {
    "class_path": "img2img.tasks.AnomalySegmentation",
    "init_args": {
        "network": {
            "class_path": "img2img.networks.RestorationUNet",
            "init_args": {"out_channels": 4, "channels": [8, 8], "blocks": 1, "bias": True},
        },
        "recommended": "error_max",
        "window": 5,
    },
}


class Bright(nn.Module):
    """Darkens what is brighter than a half to a half, and says that it is abnormal."""

    in_channels, receptive_field, stride = 3, 0, 1

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(1))

    def forward(self, x):
        return torch.cat([x.clamp_max(0.5), 40 * (x.amax(1, keepdim=True) - 0.5)], 1)


@pytest.fixture
def spotted():
    """A dark image and one with a white square of 8×8, N×3×40×50."""
    images = torch.full((2, 3, 40, 50), 0.25)
    images[1, :, 10:18, 20:28] = 1
    return images


def untrained() -> AnomalySegmentation:
    """A small network with random weights everywhere, so that its outputs depend on all they can."""
    torch.manual_seed(0)
    task = img2img.build(RECIPE).eval()
    with torch.no_grad():
        for weight in task.parameters():
            weight.add_(0.1 * torch.randn_like(weight))
    return task


def test_scores_and_map_are_what_their_names_say(spotted):
    found = AnomalySegmentation(Bright(), gain=1, level=0, window=5, top=0.01).score_batch({"image": spotted})
    assert tuple(found.scores) == SCORES
    normal, abnormal = (1 / (1 + math.exp(-40 * (value - 0.5))) for value in (0.25, 1))
    assert found.scores["mask_max"].tolist() == pytest.approx([normal, abnormal])
    assert found.scores["mask_top"].tolist() == pytest.approx([normal, abnormal]), "20 pixels of 2000; 64 are white"
    assert found.scores["error_max"].tolist() == pytest.approx([0, 0.25])
    assert found.maps[""].shape == (2, 40, 50)
    assert (found.maps[""][1] > 0.5).sum() == 64
    wide = AnomalySegmentation(Bright(), gain=1, level=0, window=9, top=1).score_batch({"image": spotted}).scores
    assert wide["mask_max"][1] == pytest.approx((64 * abnormal + 17 * normal) / 81, abs=1e-5)
    assert wide["mask_top"][1] == pytest.approx((64 * abnormal + 1936 * normal) / 2000, abs=1e-5)


def test_mirror_images_score_alike_and_what_one_does_not_show_does_not_count(photo):
    task, image = untrained(), torch.from_numpy(photo[:48, :64] / 255).float().permute(2, 0, 1)[None]
    single = task.score_batch({"image": image})
    task.mirrored = True
    four = task.score_batch({"image": image})
    assert (four.maps[""] <= single.maps[""]).all()
    assert four.scores["mask_top"] < single.scores["mask_top"]
    for axes in ((-1,), (-2,), (-2, -1)):
        flipped = task.score_batch({"image": image.flip(axes)})
        assert torch.equal(flipped.maps[""].flip(axes), four.maps[""])
        assert flipped.scores["mask_top"] == pytest.approx(four.scores["mask_top"])


def test_a_large_image_scores_in_tiles_as_it_does_whole(photo, monkeypatch):
    task, image = untrained(), torch.from_numpy(photo / 255).float().permute(2, 0, 1)[None]
    sizes, segment = [], task.segment

    def noting(seen):
        sizes.append(tuple(seen.shape[-2:]))
        return segment(seen)

    monkeypatch.setattr(task, "segment", noting)
    whole = task.score_batch({"image": image})
    # The memory that the program takes, and a tenth of what the whole image needs.
    room = int(PROGRAM + 0.1 * 320 * 320 * (task.bytes_per_pixel + 100))
    monkeypatch.setattr("img2img.tasks.anomaly_segmentation.ENOUGH", room)
    tiled = task.score_batch({"image": image})
    assert sizes[0] == (320, 320)
    assert len(sizes) > 4
    assert max(height * width for height, width in sizes[1:]) < 320 * 320 / 4
    torch.testing.assert_close(tiled.maps[""], whole.maps[""], atol=1e-5, rtol=0)
    for name in SCORES:
        torch.testing.assert_close(tiled.scores[name], whole.scores[name], atol=1e-5, rtol=0)


@pytest.mark.parametrize("size", [(1, 1), (3, 70), (33, 20)])
def test_any_size_is_scored_and_restored(size):
    task, image = untrained(), torch.rand(1, 3, *size)
    with torch.no_grad():
        assert task.score_batch({"image": image}).maps[""].shape == (1, *size)
        assert task(image).shape == image.shape
        assert task.restore(image).shape == image.shape


def test_the_loss_is_that_of_the_image_plus_the_weighted_one_of_the_mask(images):
    task = AnomalySegmentation(loss=nn.L1Loss(), mask_loss=nn.BCEWithLogitsLoss(), mask_weight=3.0)
    mask = torch.zeros(2, 1, 24, 32)
    mask[..., :8] = 1
    raw = torch.cat([images + 0.1, torch.full_like(mask, 2.0)], 1)
    of_mask = 0.75 * math.log(1 + math.exp(2)) + 0.25 * math.log(1 + math.exp(-2))
    assert float(task.loss_of(raw, {"target": images, "mask": mask})) == pytest.approx(0.1 + 3 * of_mask, rel=1e-5)


def test_the_network_gets_more_contrast_and_the_image_comes_back_as_it_is(images):
    network = RestorationUNet(3, 4, (8, 8))  # a new one without biases returns its input
    task = AnomalySegmentation(network, gain=4.0, level=0.25)
    seen = []
    task.network.register_forward_pre_hook(lambda _, given: seen.append(given[0]))
    torch.testing.assert_close(task(images), images)
    torch.testing.assert_close(seen[0], 4 * images - 1)


def test_it_learns_to_point_at_anomalies_of_few_pixels(images):
    torch.manual_seed(0)
    task = AnomalySegmentation(RestorationUNet(3, 4, (8, 8), blocks=1, bias=True))
    mask = torch.zeros(2, 1, 24, 32)
    mask[0, :, 4:8, 5:9], mask[1, :, 15:18, 20:26] = 1, 1
    batch = {"input": torch.where(mask.bool(), torch.rand_like(images), images), "target": images, "mask": mask}
    optimizer = torch.optim.Adam(task.parameters(), 1e-2)
    for _ in range(60):
        optimizer.zero_grad()
        task.loss_of(task.forward_batch(batch), batch).backward()
        optimizer.step()
    with torch.no_grad():
        found = task.mask_of(task.forward_batch(batch))
    assert found[mask.bool()].mean() > 0.8
    assert found[~mask.bool()].mean() < 0.1


def test_images_with_anomalies_are_ranked_against_the_same_without():
    task = AnomalySegmentation(Bright(), recommended="mask_max")
    values = [{"mask_max_clean": 0.1, "mask_max": 0.9}, {"mask_max_clean": 0.3, "mask_max": 0.2}]
    assert task.measure_all(values)["auroc"] == pytest.approx(0.75)
    assert task.measure_all(values)["ap"] == pytest.approx((1 + 2 / 3) / 2)
    assert task.measure_all([{"mask_max_clean": 0.1}]) == {}, "nothing abnormal"


def test_a_checkpoint_keeps_thresholds_and_output(tmp_path, images):
    task = untrained()
    held = HeldOut(torch.tensor([0.1, 0.2]), 0.95, 0.195)
    task.thresholds = Thresholds({"error_max": held}, {"map": Threshold(0.4, 0.99)})
    again = img2img.load(save_task(tmp_path / "m.ckpt", task))
    assert again.thresholds.scores["error_max"].threshold == 0.195
    assert again.thresholds.pixels == task.thresholds.pixels
    assert (again.recommended, again.window) == ("error_max", 5)
    with torch.no_grad():
        assert torch.equal(again(images), task(images))
        one, other = (each.score_batch({"image": images}).scores["mask_max"] for each in (task, again))
    assert torch.equal(one, other)


def test_a_run_measures_each_corruption_and_forgets_thresholds_when_it_goes_on(program):
    program("fit", "--trainer.max_steps=2", config="anomaly.yaml")
    last = torch.load("runs/anomaly/0/last.ckpt", weights_only=True)
    assert "map" in last[CHECKPOINT_KEY]["statistics"]
    logged = EventAccumulator("runs/anomaly/0").Reload()
    names = {"auroc", "ap", "pixel_ap", "psnr", "psnr_input", "mask_top", "mask_top_clean"}
    assert {f"val/{name}{of}" for name in names for of in ("", "/cracks", "/stains")} <= set(logged.Tags()["scalars"])
    assert 0 <= logged.Scalars("val/auroc/cracks")[0].value <= 1
    with pytest.MonkeyPatch.context() as without:
        without.setattr("img2img.training.cli.calibrate_checkpoint", lambda *_: None)
        program("fit", "--trainer.max_steps=3", "--ckpt_path=last", config="anomaly.yaml")
    last = torch.load("runs/anomaly/0/last.ckpt", weights_only=True)
    assert last["global_step"] == 3
    assert last[CHECKPOINT_KEY]["statistics"] == {}, "other weights have other scores"


def test_wrong_arguments_are_refused(images):
    with pytest.raises(UserError, match="recommended: neighbour is not a score; there are mask_max, mask_top"):
        AnomalySegmentation(recommended="neighbour")
    for wrong in ({"window": 4}, {"window": 0}, {"top": 0.0}, {"top": 1.5}):
        with pytest.raises(UserError, match="window must be odd and top in"):
            AnomalySegmentation(**wrong)
    with pytest.raises(UserError, match="gain must be above 0, not 0"):
        AnomalySegmentation(gain=0)
    with pytest.raises(UserError, match=r"with 4 output channels.*not 3: set network.init_args.out_channels to 4"):
        AnomalySegmentation(RestorationUNet(3))(images)
    with pytest.raises(ValueError, match="alpha must be in"):
        FocalDice(alpha=2)
