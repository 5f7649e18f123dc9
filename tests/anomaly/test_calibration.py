import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from img2img.anomaly.calibration import calibrate
from img2img.callbacks import LastCheckpoint
from img2img.cli import main
from img2img.data import WholeImages
from img2img.errors import UserError
from img2img.tasks.autoencoding import Statistics
from img2img.tasks.checkpoint import CHECKPOINT_KEY
from img2img.tasks.recipe import load
from img2img.tasks.thresholds import Thresholds
from tests.anomaly.calibrated import CONVOLUTIONAL, CPU, LINEAR, SIZE, make, pieces, shared_place, whole
from tests.commands.models import save_model
from tests.commands.test_distributed import run


def fit(
    root: Path,
    steps: int,
    *flags: str,
    config: str = "autoencode.yaml",
    program: Callable[..., object] = lambda *argv: main(argv),
) -> None:
    program(
        *("fit", "--config", config, f"--trainer.max_steps={steps}", f"--data.root={root}"),
        *(f"--model.network.init_args.image_size=[{SIZE},{SIZE}]", f"--data.image_size=[{SIZE},{SIZE}]"),
        *("--model.network.init_args.channels=[4,8]", "--model.network.init_args.latent_dim=4"),
        *("--trainer.accelerator=cpu", "--trainer.enable_progress_bar=false", "--trainer.precision=32-true"),
        *("--trainer.logger=false", "--data.batch_size=4", *flags),
    )


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> Path:
    """A folder with `good/`, 20 images, and runs of two steps on them: `runs/autoencode/0` and `runs/vae/0`."""
    with shared_place(tmp_path_factory) as folder:
        root = pieces(folder / "good", 20)
        fit(root, 2)
        fit(root, 2, config="vae.yaml")
    return folder


def test_fit_leaves_calibrated_checkpoints_that_still_go_on_exactly(trained, monkeypatch):
    root, folders = trained / "good", (trained / "runs/autoencode/0", Path("runs/autoencode/0"))
    with monkeypatch.context() as without:
        without.setattr("img2img.training.cli.calibrate_checkpoint", lambda *_: None)
        fit(root, 2)
    for name in ("best", "last"):
        calibrated, plain = (torch.load(folder / f"{name}.ckpt", weights_only=True) for folder in folders)
        statistics = calibrated[CHECKPOINT_KEY].pop("statistics")
        assert statistics["latents"]["codes"].shape == (16, 4)
        assert plain[CHECKPOINT_KEY].pop("statistics")["latents"] == {}
        assert list(calibrated) == list(plain)
        assert calibrated[CHECKPOINT_KEY] == plain[CHECKPOINT_KEY]
    for folder in folders:
        fit(root, 4, f"--ckpt_path={folder}/last.ckpt")
    once, again = (torch.load(f"runs/autoencode/{n}/last.ckpt", weights_only=True) for n in (1, 2))
    assert once["global_step"] == again["global_step"] == 4
    for key in ("state_dict", "current_model_state"):
        assert all(torch.equal(once[key][name], again[key][name]) for name in once[key])
    held = [run[CHECKPOINT_KEY]["statistics"]["scores"]["neighbour"] for run in (once, again)]
    assert torch.equal(held[0]["normal"], held[1]["normal"])
    assert not torch.equal(held[0]["normal"], statistics["scores"]["neighbour"]["normal"])  # of other weights


def test_a_variational_run_goes_on_exactly_where_it_stopped(tmp_path, monkeypatch):
    """Its σ is a running mean in training; what `best.ckpt` alone has frozen does not come back."""
    root, save = pieces(tmp_path / "good", 20), LastCheckpoint._save_none_monitor_checkpoint

    def keep_a_copy(self, trainer, candidates):
        save(self, trainer, candidates)
        Path(f"step{trainer.global_step}.ckpt").write_bytes(Path(self.best_model_path).read_bytes())

    with monkeypatch.context() as patch:
        patch.setattr(LastCheckpoint, "_save_none_monitor_checkpoint", keep_a_copy)
        fit(root, 5, "--last.every_n_steps=3", config="vae.yaml")
    fit(root, 5, "--ckpt_path=step3.ckpt", config="vae.yaml")
    once, again = (torch.load(f"runs/vae/{n}/last.ckpt", weights_only=True) for n in (0, 1))
    assert not once["state_dict"]["loss.frozen"]
    for key in ("state_dict", "current_model_state"):
        assert once[key].keys() == again[key].keys()
        assert all(torch.equal(once[key][name], again[key][name]) for name in once[key])
    assert torch.load("runs/vae/0/best.ckpt", weights_only=True)["state_dict"]["loss.frozen"]


@pytest.mark.slow
def test_two_processes_calibrate_as_one(tmp_path):
    root = pieces(tmp_path / "good", 21)
    fit(root, 2)
    os.environ.pop("IMG2IMG_RUN", None)
    two = ("--trainer.devices=2", "--trainer.strategy=ddp", "--data.batch_size=2")
    fit(root, 2, *two, program=lambda *argv: run("-m", "img2img", *argv))
    one, shared = (
        torch.load(f"runs/autoencode/{n}/best.ckpt", weights_only=True)[CHECKPOINT_KEY]["statistics"] for n in (0, 1)
    )
    assert shared["latents"]["codes"].shape == (17, 4)
    assert torch.allclose(one["latents"]["codes"], shared["latents"]["codes"], atol=1e-3)
    assert shared["scores"]["error"]["threshold"] == pytest.approx(one["scores"]["error"]["threshold"], rel=1e-2)
    assert shared["scores"]["map"]["threshold"] == pytest.approx(one["scores"]["map"]["threshold"], rel=1e-2)


def test_a_run_that_goes_on_forgets_what_its_old_weights_were_measured_to_be(trained):
    last = trained / "runs/autoencode/0/last.ckpt"
    kept = torch.load(last, weights_only=True)[CHECKPOINT_KEY]["statistics"]

    task, data = load(last), whole(trained / "good")
    data.setup("fit")
    from lightning.pytorch import Trainer

    from img2img.callbacks import PCABaseline

    trainer = Trainer(
        max_steps=1, accelerator="cpu", callbacks=[PCABaseline()], logger=False, enable_checkpointing=False,
        enable_progress_bar=False, use_distributed_sampler=False, limit_val_batches=0, enable_model_summary=False,
    )  # fmt: skip
    trainer.fit(task.train(), datamodule=data)
    assert task.statistics.latents is None
    assert task.statistics.thresholds.scores == {}
    assert torch.equal(task.statistics.pca.mean, kept["pca"]["mean"])


def test_a_denoising_ones_sigma_stays_that_of_corrupted_images(trained):
    noise = "[{class_path: GaussianNoise, init_args: {sigma: 25}}]"
    fit(trained / "good", 1, f"--data.corruption={noise}", config="vae.yaml")
    for folder, frozen in ((trained / "runs/vae/0", True), (Path("runs/vae/0"), False)):
        assert torch.load(folder / "best.ckpt", weights_only=True)["state_dict"]["loss.frozen"] == frozen


def test_a_diverged_model_is_said_to_be_one(tmp_path):
    root, task = pieces(tmp_path / "good", 10), make(CONVOLUTIONAL)
    with torch.no_grad():
        task.network.to_latent.weight.fill_(torch.nan)
    with pytest.raises(UserError, match="training has diverged"):
        calibrate(task, whole(root), CPU)


def test_a_network_that_begins_with_given_weights_keeps_its_linear_part(tmp_path):
    size = [f"--{part}.image_size=[{SIZE},{SIZE}]" for part in ("data", "model.network.init_args")]
    common = ["fit", "--config", "pca.yaml", *size, "--trainer.accelerator=cpu", "--trainer.enable_progress_bar=false"]
    common += ["--model.network=LinearAutoencoder", "--model.network.init_args.latent_dim=3", "--data.batch_size=4"]
    main([*common, f"--data.root={pieces(tmp_path / 'one', 10)}", "--trainer.max_steps=1"])
    other = [f"--data.root={pieces(tmp_path / 'other', 10, first=40)}", "--model.weights=runs/pca/0/last.ckpt"]
    main([*common, *other, "--trainer.max_steps=1", "--model.lr=1e-12"])
    first, second = (load(f"runs/pca/{i}/last.ckpt") for i in (0, 1))
    for one, two in zip(first.network.parameters(), second.network.parameters(), strict=True):
        assert torch.allclose(one, two, atol=1e-6)
    assert not torch.allclose(first.statistics.pca.mean, second.statistics.pca.mean, atol=1e-3)


def test_statistics_are_those_of_the_training_images_as_they_are(tmp_path):
    root, task = pieces(tmp_path / "good", 20), make(CONVOLUTIONAL)
    calibrate(task, whole(root), CPU)
    data = whole(root)
    data.setup("fit")
    images = torch.from_numpy(np.concatenate(list(data.targets("train"))))
    codes = task.encode(images).detach()
    known = task.statistics.latents
    assert torch.allclose(known.codes, codes, atol=1e-6)
    assert torch.allclose(known.mean, codes.mean(0), atol=1e-6)
    assert known.covariance.double().numpy() == pytest.approx(np.cov(codes.double().numpy().T), rel=1e-4, abs=1e-8)
    assert torch.allclose(known.quantiles[3], codes.quantile(0.5, 0), atol=1e-6)
    coordinates = task.statistics.pca_latents
    spread = coordinates.covariance.diagonal()
    assert torch.allclose(spread, task.statistics.pca.variances, rtol=1e-3)  # exact, for so few images fit at once
    assert task.statistics.axes is None


def test_most_images_are_spread_over_all(tmp_path):
    data = whole(pieces(tmp_path / "good", 20))
    few = data.clean_images("train", 4)
    every = data.clean_images("train", 100)
    assert few.paths == [every.paths[i] for i in (0, 4, 8, 12)]
    assert len(every.paths) == 16


def test_a_threshold_leaves_its_share_of_held_out_images_below(tmp_path):
    root = tmp_path / "divided"
    pieces(root / "train", 12), pieces(root / "val", 20, 20)
    (root / "test").mkdir()
    (root / "test" / "never-read.png").write_bytes(b"no image")
    task = make(CONVOLUTIONAL)
    calibrate(task, whole(root), CPU, quantile=0.8)
    names = {"error", "top_error", "local_error", "mahalanobis", "neighbour", "rapp_sap", "rapp_nap"}
    found = task.statistics.thresholds
    assert set(found.scores) == names | {f"pca_{name}" for name in names if not name.startswith("rapp")}
    for held in found.scores.values():
        assert len(held.normal) == 20
        assert float((held.normal <= held.threshold).float().mean()) == pytest.approx(0.8, abs=0.051)
        assert held.quantile == 0.8
    assert set(found.pixels) == {"map", "pca_map", "contrast", "marks"}
    assert 0 < found.pixels["map"].value < 1
    assert found.pixels["contrast"].value > 1
    assert found.pixels["contrast"].quantile == found.pixels["map"].quantile == 0.99


def test_a_linear_autoencoder_gets_its_exact_axes(tmp_path):
    root, task = pieces(tmp_path / "good", 20), make(LINEAR)
    calibrate(task, whole(root), CPU)
    axes = task.statistics.axes
    assert axes is not None
    assert torch.allclose(axes.axes @ axes.axes.T, torch.eye(4), atol=1e-5)
    weight = task.network.decoder[-1].weight
    assert torch.allclose(axes.axes.T @ (axes.axes @ weight), weight, atol=1e-5)  # the same subspace
    assert task.statistics.layers is None


@torch.no_grad()
def test_a_scale_is_frozen_at_the_training_error_before_anything_is_held_out(tmp_path, monkeypatch):
    root, task = pieces(tmp_path / "good", 20), make(CONVOLUTIONAL)
    data, told = whole(root), []

    def square(self, batch):
        assert self.statistics.thresholds.scores == {}
        return ((self(batch["image"]) - batch["image"]) ** 2).flatten(1).mean(1)

    monkeypatch.setattr(type(task), "squared_error_of", square)
    monkeypatch.setattr(type(task), "freeze_scale", lambda self, mean_square: told.append(mean_square))
    calibrate(task, data, CPU, freeze=False)
    assert told == []
    task.statistics = Statistics()
    calibrate(task, data, CPU)
    images = torch.from_numpy(np.concatenate(list(data.targets("train"))))
    assert told == [pytest.approx(float(((task(images) - images) ** 2).mean()), rel=1e-5)]


def test_the_best_of_a_variational_autoencoder_knows_its_sigma_and_the_last_goes_on_finding_it(trained):
    best, last = (torch.load(trained / f"runs/vae/0/{name}.ckpt", weights_only=True) for name in ("best", "last"))
    differing = {name for name in best["state_dict"] if not best["state_dict"][name].equal(last["state_dict"][name])}
    assert differing == {"loss.mean_square", "loss.frozen"}
    assert best["state_dict"]["loss.frozen"]
    held = [run[CHECKPOINT_KEY]["statistics"]["scores"]["neg_elbo"] for run in (best, last)]
    assert torch.isfinite(held[0]["normal"]).all()
    assert not torch.equal(held[0]["normal"], held[1]["normal"])


def test_a_quantile_is_a_share(tmp_path):
    with pytest.raises(UserError, match=r"between 0 and 1, such as 0\.95, not 95"):
        calibrate(make(LINEAR), WholeImages(), CPU, quantile=95)


def test_a_model_that_scores_nothing_cannot_be_calibrated(tmp_path):
    task = load(save_model(tmp_path / "m.ckpt"))
    with pytest.raises(UserError, match=r"the model \(Restoration\) does not say how abnormal images are"):
        calibrate(task, WholeImages(), CPU)


def test_of_many_images_all_latents_are_known_and_some_reconstructions_measured(tmp_path, monkeypatch):
    root, every, few = pieces(tmp_path / "good", 20), make(CONVOLUTIONAL), make(CONVOLUTIONAL)
    calibrate(every, whole(root), CPU)
    monkeypatch.setattr("img2img.anomaly.autoencoder.MOST_RECONSTRUCTED", 4)
    calibrate(few, whole(root), CPU)
    for name in ("codes", "mean", "covariance", "quantiles"):
        assert torch.allclose(getattr(few.statistics.latents, name), getattr(every.statistics.latents, name), atol=1e-6)
    assert torch.allclose(few.statistics.pca_latents.codes, every.statistics.pca_latents.codes, atol=1e-5)
    data = whole(root)
    data.setup("fit")
    images = torch.from_numpy(next(data.targets("train"))[[0, 4, 8, 12]])
    with torch.no_grad():
        errors = ((few(images) - images) ** 2).mean((0, 1))
    assert torch.allclose(few.statistics.errors[""], errors, atol=1e-6)
    assert not torch.allclose(few.statistics.errors[""], every.statistics.errors[""], atol=1e-6)


def test_statistics_in_checkpoints_are_laid_out_as_ever(trained):
    """So that earlier versions read new checkpoints, and this one reads theirs."""
    path = trained / "runs/vae/0/best.ckpt"
    plain = torch.load(path, weights_only=True)[CHECKPOINT_KEY]["statistics"]
    assert list(plain) == ["pca", "latents", "pca_latents", "layers", "errors", "scores"]
    assert list(plain["latents"]) == ["mean", "covariance", "quantiles", "codes"]
    assert list(plain["pca_latents"]) == ["mean", "covariance", "codes"]
    assert list(plain["layers"]) == ["mean", "covariance"]
    assert list(plain["errors"]) == ["", "pca_"]
    assert list(plain["scores"]["neg_elbo"]) == ["normal", "quantile", "threshold"]
    assert list(plain["scores"]["map"]) == list(plain["scores"]["pca_map"]) == ["quantile", "threshold"]
    again = load(path).statistics
    assert again.plain().keys() == plain.keys()
    assert again.thresholds.scores["error"].threshold == plain["scores"]["error"]["threshold"]
    assert torch.equal(again.layers.covariance, plain["layers"]["covariance"])
    empty = Statistics().plain()
    assert empty == {"latents": {}, "pca_latents": {}, "layers": {}, "errors": {}, "scores": {}}
    assert Statistics.from_plain(empty).latents is None
    assert Thresholds.from_plain({}).scores == {}
