import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from img2img.callbacks import LastCheckpoint
from img2img.cli import main
from img2img.commands.applying import Devices
from img2img.commands.calibrate import calibrate
from img2img.data import WholeImages
from img2img.errors import UserError
from img2img.tasks.autoencoding import Statistics
from img2img.tasks.checkpoint import CHECKPOINT_KEY
from img2img.tasks.recipe import load
from tests.commands.calibrated import CONVOLUTIONAL, LINEAR, SIZE, make, pieces, whole
from tests.commands.test_distributed import run

CPU = Devices("cpu", 1)


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


def test_fit_leaves_calibrated_checkpoints_that_still_go_on_exactly(tmp_path, monkeypatch):
    root = pieces(tmp_path / "good", 20)
    fit(root, 2)
    with monkeypatch.context() as without:
        without.setattr("img2img.commands.lightning_cli.calibrate_checkpoint", lambda *_: None)
        fit(root, 2)
    for name in ("best", "last"):
        calibrated, plain = (torch.load(f"runs/autoencode/{n}/{name}.ckpt", weights_only=True) for n in (0, 1))
        statistics = calibrated[CHECKPOINT_KEY].pop("statistics")
        assert statistics["latents"]["codes"].shape == (16, 4)
        assert plain[CHECKPOINT_KEY].pop("statistics")["latents"] == {}
        assert list(calibrated) == list(plain)
        assert calibrated[CHECKPOINT_KEY] == plain[CHECKPOINT_KEY]
    for n in (0, 1):
        fit(root, 4, f"--ckpt_path=runs/autoencode/{n}/last.ckpt")
    once, again = (torch.load(f"runs/autoencode/{n}/last.ckpt", weights_only=True) for n in (2, 3))
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


def test_a_run_that_goes_on_forgets_what_its_old_weights_were_measured_to_be(tmp_path):
    root = pieces(tmp_path / "good", 10)
    fit(root, 1)
    kept = torch.load("runs/autoencode/0/last.ckpt", weights_only=True)[CHECKPOINT_KEY]["statistics"]

    task, data = load("runs/autoencode/0/last.ckpt"), whole(root)
    data.setup("fit")
    from lightning.pytorch import Trainer

    from img2img.callbacks import LinearReference

    trainer = Trainer(
        max_steps=1, accelerator="cpu", callbacks=[LinearReference()], logger=False, enable_checkpointing=False,
        enable_progress_bar=False, use_distributed_sampler=False, limit_val_batches=0, enable_model_summary=False,
    )  # fmt: skip
    trainer.fit(task.train(), datamodule=data)
    assert task.statistics.latents == task.statistics.scores == {}
    assert torch.equal(task.statistics.pca.mean, kept["pca"]["mean"])


def test_a_denoising_ones_sigma_stays_that_of_corrupted_images(tmp_path):
    root = pieces(tmp_path / "good", 10)
    for corruption, frozen in (("[]", True), ("[{class_path: GaussianNoise, init_args: {sigma: 25}}]", False)):
        os.environ.pop("IMG2IMG_RUN", None)
        fit(root, 1, f"--data.corruption={corruption}", config="vae.yaml")
        run = max(Path("runs/vae").iterdir())
        assert torch.load(run / "best.ckpt", weights_only=True)["state_dict"]["loss.frozen"] == frozen


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
    assert torch.allclose(known["codes"], codes, atol=1e-6)
    assert torch.allclose(known["mean"], codes.mean(0), atol=1e-6)
    assert known["covariance"].double().numpy() == pytest.approx(np.cov(codes.double().numpy().T), rel=1e-4, abs=1e-8)
    assert torch.allclose(known["quantiles"][3], codes.quantile(0.5, 0), atol=1e-6)
    coordinates = task.statistics.pca_latents
    spread = coordinates["covariance"].diagonal()
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
    scored = {name for name, held in task.statistics.scores.items() if "normal" in held}
    assert scored == names | {f"pca_{name}" for name in names if not name.startswith("rapp")}
    for name in scored:
        held = task.statistics.scores[name]
        assert len(held["normal"]) == 20
        assert float((held["normal"] <= held["threshold"]).float().mean()) == pytest.approx(0.8, abs=0.051)
        assert held["quantile"] == 0.8
    assert 0 < task.statistics.scores["map"]["threshold"] < 1


def test_a_linear_autoencoder_gets_its_exact_axes(tmp_path):
    root, task = pieces(tmp_path / "good", 20), make(LINEAR)
    calibrate(task, whole(root), CPU)
    axes = task.statistics.axes
    assert axes is not None
    assert torch.allclose(axes.axes @ axes.axes.T, torch.eye(4), atol=1e-5)
    weight = task.network.decoder[-1].weight
    assert torch.allclose(axes.axes.T @ (axes.axes @ weight), weight, atol=1e-5)  # the same subspace
    assert task.statistics.layers == {}


@torch.no_grad()
def test_a_scale_is_frozen_at_the_training_error_before_anything_is_held_out(tmp_path, monkeypatch):
    root, task = pieces(tmp_path / "good", 20), make(CONVOLUTIONAL)
    data, told = whole(root), []

    def square(self, batch):
        assert self.statistics.scores == {}
        return ((self(batch["image"]) - batch["image"]) ** 2).flatten(1).mean(1)

    monkeypatch.setattr(type(task), "squared_error_of", square)
    monkeypatch.setattr(type(task), "freeze_scale", lambda self, mean_square: told.append(mean_square))
    calibrate(task, data, CPU, freeze=False)
    assert told == []
    task.statistics = Statistics()
    calibrate(task, data, CPU)
    images = torch.from_numpy(np.concatenate(list(data.targets("train"))))
    assert told == [pytest.approx(float(((task(images) - images) ** 2).mean()), rel=1e-5)]


def test_the_best_of_a_variational_autoencoder_knows_its_sigma_and_the_last_goes_on_finding_it(tmp_path):
    fit(pieces(tmp_path / "good", 20), 2, config="vae.yaml")
    best, last = (torch.load(f"runs/vae/0/{name}.ckpt", weights_only=True) for name in ("best", "last"))
    differing = {name for name in best["state_dict"] if not best["state_dict"][name].equal(last["state_dict"][name])}
    assert differing == {"loss.mean_square", "loss.frozen"}
    assert best["state_dict"]["loss.frozen"]
    held = [run[CHECKPOINT_KEY]["statistics"]["scores"]["neg_elbo"] for run in (best, last)]
    assert torch.isfinite(held[0]["normal"]).all()
    assert not torch.equal(held[0]["normal"], held[1]["normal"])


def test_a_quantile_is_a_share(tmp_path):
    with pytest.raises(UserError, match=r"between 0 and 1, such as 0\.95, not 95"):
        calibrate(make(LINEAR), WholeImages(), CPU, quantile=95)
