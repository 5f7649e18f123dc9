"""Every shipped config through every command; runs that repeat, resume and share exactly."""

import re
from pathlib import Path

import pytest
import torch
import yaml
from PIL import Image

from img2img import load
from img2img.shipped import shipped_configs

SIX_STEPS = ("--trainer.max_steps=6", "--trainer.val_check_interval=4", "--last.every_n_steps=3")


def weights(checkpoint: str | Path) -> dict[str, torch.Tensor]:
    """The averaged weights and those that training goes on with."""
    saved = torch.load(checkpoint, weights_only=True)
    return saved["state_dict"] | {f"current {k}": v for k, v in saved["current_model_state"].items()}


def same(a: str | Path, b: str | Path) -> bool:
    first, second = weights(a), weights(b)
    return first.keys() == second.keys() and all(torch.equal(first[k], second[k]) for k in first)


@pytest.mark.parametrize("config", [path.name for path in shipped_configs()])
def test_every_config_fits_validates_tests_and_predicts(program, photos, config, capsys):
    name = config.removesuffix(".yaml")
    program("fit", "--trainer.max_steps=3", config=config)
    run = Path(f"runs/{name}/0")
    assert {"best.ckpt", "last.ckpt", "grid.png", "config.yaml"} <= {file.name for file in run.iterdir()}
    last_line = capsys.readouterr().out.strip().splitlines()[-1]
    assert re.search(rf"Done: .* {run}/best.ckpt .* {run}/grid.png .* img2img watch", last_line)
    program("validate", "--ckpt_path=best", config=config)
    program("test", f"--ckpt_path={run}/best.ckpt", config=config)
    assert "test/psnr" in capsys.readouterr().out
    program("predict", "--ckpt_path=best", f"--data.predict_dir={photos}", config=config)
    sources = sorted(path.relative_to(photos) for path in photos.rglob("*.png"))
    assert sorted(path.relative_to("restored") for path in Path("restored").rglob("*.png")) == sources
    assert Image.open(Path("restored") / sources[0]).size == (64, 48)
    assert not Path("lightning_logs").exists()


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
    assert resumed["CorruptedPairs"] == {"next_sample": 12, "global_step": 6}


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
    read = cache.read_image
    monkeypatch.setenv("IMG2IMG_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(cache, "read_image", lambda path: decoded.append(path) or read(path))
    program("fit", "--trainer.max_steps=4")
    assert sorted(decoded) == sorted([*(photos / "train").glob("*.png"), *(photos / "val").glob("*.png")])
    program("test", "--ckpt_path=best")
    program("fit", "--trainer.max_steps=1")
    assert len(decoded) == 10, "the second run finds everything in the cache"


def test_short_runs_end_with_a_validation_and_last_holds_the_last_step(program):
    program("fit", "--trainer.max_steps=5", "--trainer.val_check_interval=2", "--last.every_n_steps=100")
    last, best = (torch.load(f"runs/denoise/0/{name}.ckpt", weights_only=True) for name in ("last", "best"))
    assert last["global_step"] == 5
    assert best["global_step"] in (2, 4, 5)


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


def test_best_is_kept_when_later_steps_are_worse(program):
    program(
        "fit",
        "--trainer.max_steps=4",
        "--trainer.val_check_interval=2",
        "--model.lr=1000",
        "--average.decay=0",
    )
    best = torch.load("runs/denoise/0/best.ckpt", weights_only=True)
    last = torch.load("runs/denoise/0/last.ckpt", weights_only=True)
    monitors = [s for k, s in best["callbacks"].items() if k.startswith("BestCheckpoint")]
    assert last["global_step"] == 4
    assert monitors[0]["best_model_score"] is not None


def test_validation_in_the_checkpoint_is_that_of_its_averaged_weights(program, capsys):
    program("fit", "--trainer.max_steps=6")
    best = torch.load("runs/denoise/0/best.ckpt", weights_only=True)
    score = next(s["best_model_score"] for k, s in best["callbacks"].items() if k.startswith("BestCheckpoint"))
    capsys.readouterr()
    program("validate", "--ckpt_path=best")
    shown = re.search(r"val/psnr\s+│\s+([0-9.]+)", capsys.readouterr().out)
    assert float(shown[1]) == pytest.approx(float(score), abs=1e-4)


def test_events_hold_grids_rates_config_and_hparams(program):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

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
        "lr-AdamW",
        "train/pixels_per_second",
    } <= scalars
    assert "config/text_summary" in events.Tags()["tensors"]
    assert "_hparams_/session_start_info" in events.summary_metadata or "val/psnr" in scalars


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
