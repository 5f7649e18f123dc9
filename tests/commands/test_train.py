"""Runs that repeat, resume and share exactly."""

import re
import sys
from pathlib import Path

import pytest
import torch
import yaml
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from img2img import load
from img2img.cli import main
from img2img.shipped import shipped_configs

SIX_STEPS = ("--trainer.max_steps=6", "--trainer.val_check_interval=4", "--last.every_n_steps=3")


def weights(checkpoint: str | Path) -> dict[str, torch.Tensor]:
    """The averaged weights and those that training goes on with."""
    saved = torch.load(checkpoint, weights_only=True)
    return saved["state_dict"] | {f"current {k}": v for k, v in saved["current_model_state"].items()}


def same(a: str | Path, b: str | Path) -> bool:
    first, second = weights(a), weights(b)
    return first.keys() == second.keys() and all(torch.equal(first[k], second[k]) for k in first)


def test_a_saved_config_runs_again_under_the_same_name(program):
    program("fit", "--trainer.max_steps=2")
    saved = Path("runs/denoise/0/config.yaml")
    assert yaml.safe_load(saved.read_text())["trainer"]["max_steps"] == 2
    program("fit", config=str(saved))
    assert same("runs/denoise/0/last.ckpt", "runs/denoise/1/last.ckpt")


def test_same_seed_same_weights_whatever_the_workers_and_another_seed_not(program):
    program("fit", *SIX_STEPS)
    program("fit", *SIX_STEPS, "--data.num_workers=2")
    program("fit", *SIX_STEPS, "--seed_everything=1")
    runs = [f"runs/denoise/{n}/last.ckpt" for n in range(3)]
    assert same(runs[0], runs[1])
    assert not same(runs[0], runs[2])


def test_last_goes_on_in_the_newest_run_and_skips_no_sample(program):
    program("fit", "--trainer.max_steps=4")
    program("fit", "--trainer.max_steps=6", "--ckpt_path=last")
    assert [folder.name for folder in Path("runs/denoise").iterdir()] == ["0"]
    resumed = torch.load("runs/denoise/0/last.ckpt", weights_only=True)
    assert resumed["global_step"] == 6
    assert resumed["CorruptedPairs"] == {"next_sample": 12, "global_step": 6, "seed": 0}


@pytest.mark.parametrize("workers", [0, 2])
def test_resuming_is_bit_identical_from_every_checkpoint(program, workers, monkeypatch):
    from img2img.callbacks import LastCheckpoint

    save = LastCheckpoint._save_none_monitor_checkpoint

    def keep_a_copy(self, trainer, candidates):
        save(self, trainer, candidates)
        if trainer.is_global_zero:
            Path(f"step{trainer.global_step}.ckpt").write_bytes(Path(self.best_model_path).read_bytes())

    flags = ("--trainer.max_steps=7", "--trainer.val_check_interval=3", f"--data.num_workers={workers}")
    with monkeypatch.context() as patch:
        patch.setattr(LastCheckpoint, "_save_none_monitor_checkpoint", keep_a_copy)
        program("fit", *flags, "--last.every_n_steps=2")
    for n, step in enumerate((2, 4, 6), start=1):
        program("fit", *flags, f"--ckpt_path=step{step}.ckpt")
        assert same("runs/denoise/0/last.ckpt", f"runs/denoise/{n}/last.ckpt"), f"resumed at step {step}"


def test_batch_size_may_be_traded_for_accumulation(program):
    exact = ("--trainer.precision=64-true", "--trainer.max_steps=4")
    program("fit", *exact, "--data.batch_size=4")
    program("fit", *exact, "--data.batch_size=2", "--trainer.accumulate_grad_batches=2")
    program("fit", *exact, "--data.batch_size=4", "--seed_everything=1")
    one, two, control = (weights(f"runs/denoise/{n}/last.ckpt") for n in range(3))
    assert max((one[k] - two[k]).abs().max() for k in one) < 1e-12
    assert max((one[k] - control[k]).abs().max() for k in one) > 1e-5


def test_images_are_decoded_once_before_training(program, photos, monkeypatch, tmp_path):
    from img2img.data import cache

    decoded = []
    read = cache.read_finite
    monkeypatch.setenv("IMG2IMG_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(cache, "read_finite", lambda path: decoded.append(path) or read(path))
    program("fit", "--trainer.max_steps=4")
    assert sorted(decoded) == sorted([*(photos / "train").glob("*.png"), *(photos / "val").glob("*.png")])
    program("test", "--ckpt_path=best")
    program("fit", "--trainer.max_steps=1")
    assert len(decoded) == 10, "the second run finds everything in the cache"


def test_short_runs_end_with_a_validation_and_last_holds_the_last_step(program):
    program("fit", "--trainer.max_steps=5", "--trainer.val_check_interval=2", "--last.every_n_steps=100")
    last, best = (torch.load(f"runs/denoise/0/{name}.ckpt", weights_only=True) for name in ("last", "best"))
    assert last["global_step"] == 5
    events = EventAccumulator("runs/denoise/0")
    events.Reload()
    scores = {value.step + 1: value.value for value in events.Scalars("val/psnr")}  # Lightning counts steps from 0
    assert list(scores) == [2, 4, 5]
    assert best["global_step"] == max(scores, key=lambda step: scores[step])


def test_runs_by_epochs_end_with_a_validation_too(program):
    program("fit", "--trainer.max_steps=-1", "--trainer.max_epochs=2", "--data.samples_per_epoch=6")
    assert torch.load("runs/denoise/0/last.ckpt", weights_only=True)["global_step"] == 6
    assert Path("runs/denoise/0/best.ckpt").exists()


def test_fine_tuning_starts_from_the_weights(program, checkpoint):
    program("fit", "--trainer.max_steps=1", "--model.lr=0", f"--model.weights={checkpoint}")
    start, end = load(checkpoint).state_dict(), load("runs/denoise/1/last.ckpt").state_dict()
    assert all(torch.equal(start[k], end[k]) for k in start)


def test_the_config_is_not_overruled_by_the_checkpoint(program, checkpoint):
    program("fit", "--trainer.max_steps=4", "--model.lr=0.0001", f"--ckpt_path={checkpoint}")
    saved = yaml.safe_load(Path("runs/denoise/1/config.yaml").read_text())
    assert saved["model"]["init_args"]["lr"] == 0.0001
    optimizer = torch.load("runs/denoise/1/last.ckpt", weights_only=True)["optimizer_states"][0]
    assert optimizer["param_groups"][0]["initial_lr"] == 0.0001


def test_best_is_kept_when_later_steps_are_worse(program):
    # A first step that is almost none leaves the image as it is; the next ones, far too long, ruin it.
    program("fit", "--trainer.max_steps=1", "--model.warmup_steps=1000000000")
    program("fit", "--trainer.max_steps=3", "--model.lr=1000", "--average.decay=0", "--ckpt_path=last")
    best, last = (torch.load(f"runs/denoise/0/{name}.ckpt", weights_only=True) for name in ("best", "last"))
    assert (best["global_step"], last["global_step"]) == (1, 3)


def test_validation_in_the_checkpoint_is_that_of_its_averaged_weights(program, capsys):
    program("fit", "--trainer.max_steps=6")
    best = torch.load("runs/denoise/0/best.ckpt", weights_only=True)
    score = next(s["best_model_score"] for k, s in best["callbacks"].items() if k.startswith("BestCheckpoint"))
    capsys.readouterr()
    program("validate", "--ckpt_path=best")
    shown = re.search(r"val/psnr[\s│]+([0-9.]+)", capsys.readouterr().out)
    assert float(shown[1]) == pytest.approx(float(score), abs=1e-4)


def test_events_hold_grids_rates_config_and_hparams(program):
    program("fit", "--trainer.max_steps=4", "--trainer.val_check_interval=2", "--trainer.log_every_n_steps=1")
    events = EventAccumulator("runs/denoise/0", size_guidance={"images": 0})
    events.Reload()
    assert [image.step for image in events.Images("reconstructions")] == [2, 4]
    scalars = set(events.Tags()["scalars"])
    assert {
        "train/loss",
        "val/psnr",
        "val/psnr/sigma25",
        "val/ssim",
        "lr-MuonAdamW/pg1",
        "train/pixels_per_second",
    } <= scalars
    assert "config/text_summary" in events.Tags()["tensors"]
    assert {"_hparams_/session_start_info", "_hparams_/session_end_info"} <= set(events.summary_metadata)
    assert "final/psnr" in scalars
    settings = yaml.safe_load(Path("runs/denoise/0/hparams.yaml").read_text())
    assert settings["max_steps"] == 4
    assert "model.warmup_steps" not in settings, "it has its default"


def test_a_third_party_albumentations_transform_and_a_plain_torch_loss(program):
    Path("mine.yaml").write_text(
        "model: {class_path: Restoration, init_args: {network: {class_path: RestorationUNet}, loss: L1Loss}}\n"
        "data:\n  class_path: CorruptedPairs\n  init_args:\n    corruption:\n"
        "      - {class_path: GaussianBlur, init_args: {sigma_limit: [0.5, 2.0], p: 1.0}}\n"
        "      - class_path: OneOf\n        init_args:\n          p: 1.0\n          transforms:\n"
        "            - {class_path: ImageCompression, init_args: {quality_range: [10, 50], p: 1.0}}\n"
        "            - {class_path: GaussianNoise, init_args: {sigma: 10}}\n"
    )
    program("fit", "--trainer.max_steps=2", config="mine.yaml")
    assert Path("runs/mine/0/best.ckpt").exists()


def test_an_unreadable_photograph_does_not_stop_a_run(program, photos):
    (photos / "train" / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\nno")
    with pytest.warns(UserWarning, match=r"skipped 1 unreadable file.*broken\.png"):
        program("fit", "--trainer.max_steps=1")


def test_gray_training(program):
    program("fit", "--trainer.max_steps=2", "--data.channels=1", "--model.network.init_args.in_channels=1")
    assert load("runs/denoise/0/best.ckpt").in_channels == 1


def test_bfloat16_autocast_trains_and_clips(program):
    program("fit", "--trainer.max_steps=2", "--trainer.precision=bf16-mixed")
    assert all(value.dtype == torch.float32 for value in load("runs/denoise/0/best.ckpt").state_dict().values())


OWN_NETWORK = """
from torch import nn

class Normed(nn.Sequential):
    def __init__(self, width: int = 4):
        super().__init__(nn.Conv2d(3, width, 3, padding=1), nn.BatchNorm2d(width), nn.Conv2d(width, 3, 1))
"""


def test_a_network_of_ones_own_beside_the_config(photos, capsys):
    Path("mine.py").write_text(OWN_NETWORK)
    Path("own.yaml").write_text(
        "model: {class_path: Restoration, init_args: {network: {class_path: mine.Normed, init_args: {width: 6}}}}\n"
        f"data: {{class_path: CorruptedPairs, init_args: {{root: '{photos}', crop_size: 16, batch_size: 2}}}}\n"
        "trainer: {max_steps: 3, accelerator: cpu, enable_progress_bar: false}\n"
    )
    main(["fit", "--config", "own.yaml"])
    del sys.modules["mine"]  # restoring finds it by itself
    restore = ["restore", str(photos), "out", "--model", "runs/own/0/best.ckpt", "--accelerator", "cpu"]
    with pytest.raises(SystemExit) as refused:
        main(restore)
    assert (refused.value.code, Path("out").exists()) == (2, False)
    assert "mine.Normed" in capsys.readouterr().err
    main([*restore, "--trust", "mine"])
    assert len(list(Path("out").rglob("*.png"))) == 10


def test_another_seed_must_not_mix_what_was_trained_on_with_what_is_tested(program, photos, tmp_path, capsys):
    program("fit", "--trainer.max_steps=1", "--seed_everything=1")
    with pytest.raises(SystemExit):
        program("fit", "--trainer.max_steps=2", "--ckpt_path=last")
    assert "was trained with seed 1, not 0" in capsys.readouterr().err
    program("test", "--ckpt_path=best")  # the folders are divided by hand: nothing can mix
    flat = tmp_path / "flat"
    flat.mkdir()
    for path in photos.rglob("*.png"):
        path.rename(flat / path.name)
    with pytest.raises(SystemExit):
        program("test", "--ckpt_path=best", f"--data.root={flat}")


def test_the_config_of_a_resumed_run_trains_when_run_again(program):
    program("fit", "--trainer.max_steps=1")
    program("fit", "--trainer.max_steps=2", "--ckpt_path=last")
    program("fit", config="runs/denoise/0/config.yaml")
    assert torch.load("runs/denoise/1/last.ckpt", weights_only=True)["global_step"] == 2


def test_everything_lies_in_the_run_whatever_the_logger(program):
    logger = '{"class_path": "CSVLogger", "init_args": {"save_dir": "csv"}}'
    program("fit", "--trainer.max_steps=1", f"--trainer.logger={logger}")
    program("fit", "--trainer.max_steps=1", "--trainer.logger=false")
    for run in (0, 1):
        names = {path.name for path in Path(f"runs/denoise/{run}").iterdir()}
        assert {"best.ckpt", "last.ckpt", "grid.png", "config.yaml"} <= names
    assert not Path("last.ckpt").exists()


def test_the_root_of_runs_may_stand_in_the_config(program):
    text = next(path for path in shipped_configs() if path.name == "denoise.yaml").read_text()
    Path("mine.yaml").write_text(text + "  default_root_dir: elsewhere\n")
    program("fit", "--trainer.max_steps=1", config="mine.yaml")
    program("test", "--ckpt_path=best", config="mine.yaml")
    assert Path("elsewhere/mine/0/best.ckpt").exists()
    assert not Path("runs").exists()


def test_a_run_without_validation_keeps_its_last_step_and_a_dry_run_nothing(program, capsys):
    program("fit", "--trainer.max_steps=3", "--trainer.limit_val_batches=0")
    assert torch.load("runs/denoise/0/last.ckpt", weights_only=True)["global_step"] == 3
    assert "best.ckpt" not in capsys.readouterr().out
    program("fit", "--trainer.fast_dev_run=1")
    assert sorted(path.name for path in Path().iterdir()) == ["runs"]
    assert [path.name for path in Path("runs/denoise").iterdir()] == ["0"]


def test_predict_does_not_write_among_the_originals(program, checkpoint, photos, capsys):
    with pytest.raises(SystemExit) as stop:
        program("predict", f"--ckpt_path={checkpoint}", f"--restore.input={photos}", f"--restore.output={photos}/out")
    assert stop.value.code == 2
    assert "is inside the input" in capsys.readouterr().err


def test_fine_tuning_with_another_loss(program, checkpoint):
    program("fit", "--trainer.max_steps=1", f"--model.weights={checkpoint}", "--model.loss=MSELoss")
    assert type(load("runs/denoise/1/last.ckpt").loss).__name__ == "MSELoss"
