import math
import os
import re
import warnings

import pytest
import torch
from lightning.pytorch import Callback
from torch.utils.data import DataLoader

import img2img
from img2img.corruptions import GaussianNoise
from img2img.data.pairs import collate
from img2img.data.stream import EvaluationSampler
from img2img.errors import UserError
from img2img.networks import ConvAutoencoder
from img2img.tasks import Bernoulli, Laplace, VariationalAutoencoder
from img2img.tasks.pca import fit_principal
from img2img.tasks.seeded_noise import Purpose, normal_noise, uniform_noise
from tests.commands.test_distributed import run, table
from tests.tasks.small_vae import data_of, tiny, trainer_of


def scores(task, data, batch_size, rank=0, world=1, test=False) -> dict[int, dict[str, float]]:
    """Evaluates a share of the validation images and returns each image's scores before they are averaged."""
    pairs = data._evaluation_pairs(data._sources["val"], None)
    sampler = EvaluationSampler(len(pairs), rank, world)
    loader = DataLoader(pairs, batch_size=batch_size, sampler=sampler, collate_fn=collate)
    kept: dict[int, dict[str, float]] = {}

    class Keep(Callback):
        def on_validation_epoch_end(self, trainer, pl_module):
            assert len({score.n for score in pl_module._scores}) == len(pl_module._scores)
            kept.update({score.n: score.values for score in pl_module._scores})

    trainer_of(precision="64-true", callbacks=[Keep()]).validate(task, loader, verbose=False)
    return kept


def test_measurements_depend_neither_on_the_batch_nor_on_who_shares_them(faces):
    task, data = tiny(), data_of(faces)
    data.setup("fit")
    alone = scores(task, data, 1)
    assert len(alone) == 5
    shared = scores(task, data, 2, 0, 2) | scores(task, data, 2, 1, 2)
    for other in (scores(task, data, 5), shared):
        assert other.keys() == alone.keys()
        for n, values in alone.items():
            assert {"elbo", "bits_per_dim", "kl", "log_likelihood", "loss", "mse", "psnr"} <= values.keys()
            assert other[n] == pytest.approx(values, rel=1e-9)
    elbos = [values["elbo"] for values in alone.values()]
    assert len(set(elbos)) == 5
    first = alone[0]
    assert first["elbo"] == pytest.approx(first["log_likelihood"] - first["kl"])
    assert first["bits_per_dim"] == pytest.approx(-first["elbo"] / 256 / math.log(2) + 8)


def test_a_denoising_one_sees_the_corrupted_image_and_describes_the_clean_one(faces):
    task, data = tiny(), data_of(faces, corruption=[GaussianNoise(50)])
    data.setup("fit")
    values = scores(task, data, 5)[2]
    item = data._evaluation_pairs(data._sources["val"], None)[2, True]
    image, target = (item[key].permute(2, 0, 1)[None].double() for key in ("input", "target"))
    assert (image - target).abs().mean() > 0.1
    target = (255 * target + uniform_noise(0, [2], Purpose.DEQUANTISATION, [1, 16, 16])) / 256
    with torch.no_grad():
        bound = task.double().elbo(image, normal_noise(0, [2], Purpose.EVALUATION, [4]), target)
    assert values["elbo"] == pytest.approx(float(bound.total))


def test_testing_measures_the_tighter_bound_too(faces):
    data, task = data_of(faces), tiny(importance_samples=32)
    task.freeze_scale(0.01)
    (found,) = trainer_of().test(task, datamodule=data, verbose=False)
    assert found["test/bits_per_dim_iw"] < found["test/bits_per_dim"]
    assert found["test/active_units"] == 0, "an untrained encoder says the same of all images"


class Follow(Callback):
    """Notes what training logs at each step."""

    def __init__(self):
        self.steps = []

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        self.steps.append({name: float(value) for name, value in trainer.callback_metrics.items()})


def test_the_weight_of_the_divergence_rises_to_beta_and_the_loss_is_in_nats_a_value(faces):
    task, follow = tiny(beta=4.0, kl_warmup=0.5), Follow()
    trainer_of(max_steps=8, callbacks=[follow], log_every_n_steps=1).fit(task, datamodule=data_of(faces))
    assert [step["train/kl_weight"] for step in follow.steps] == pytest.approx([0, 1, 2, 3, 4, 4, 4, 4])
    for step in follow.steps:
        nats = -step["train/log_likelihood"] + step["train/kl_weight"] * step["train/kl"]
        assert step["train/loss"] == pytest.approx(nats / 256, rel=1e-5)


def test_free_bits_are_not_charged_for():
    kl = torch.tensor([0.1, 2.0], requires_grad=True)
    charged = tiny(free_bits=0.5).charged(kl)
    charged.backward()
    assert charged.item() == pytest.approx(2.5)
    assert kl.grad.tolist() == [0, 1]
    assert tiny().charged(kl).item() == pytest.approx(2.1)


@pytest.mark.parametrize(("beta", "collapses"), [(1e4, True), (0.1, False)])
def test_a_collapsed_posterior_is_warned_of_once(faces, beta, collapses):
    task = tiny(beta=beta, kl_warmup=0.1, lr=1e-2, warmup_steps=0)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        data = data_of(faces, batch_size=12, samples_per_epoch=240)
        trainer_of(max_steps=60, gradient_clip_val=1.0).fit(task, datamodule=data)
    said = [str(warning.message) for warning in caught if "latents are active" in str(warning.message)]
    assert len(said) == collapses
    if collapses:
        assert "0 of 4" in said[0]
        assert "smaller beta than 10000" in said[0]


def test_training_does_not_depend_on_workers(faces):
    weights = []
    for workers, seed in ((0, 0), (2, 0), (0, 1)):
        task = tiny(Laplace())
        trainer_of(max_steps=3).fit(task, datamodule=data_of(faces, num_workers=workers, seed=seed))
        weights.append(torch.cat([each.flatten() for each in task.parameters()]))
    assert torch.equal(weights[0], weights[1])
    assert not torch.equal(weights[0], weights[2])


def test_sigma_over_the_training_images_is_the_best_one(faces):
    task, image = tiny(), torch.rand(6, 1, 16, 16)
    batch = {"image": image, "n": torch.arange(6)}
    with torch.no_grad():
        best = float(task.squared_error_of(batch).mean())
        elbos = {}
        for factor in (0.9, 1.0, 1.1):
            task.freeze_scale(best * factor)
            noise = normal_noise(0, range(6), Purpose.TRAINING, [4])
            target = (255 * image + uniform_noise(0, range(6), Purpose.TRAINING_DEQUANTISATION, [1, 16, 16])) / 256
            elbos[factor] = float(task.elbo(image, noise, target).total.mean())
    assert elbos[1.0] > max(elbos[0.9], elbos[1.1])
    trainer_of(max_steps=1).fit(task, datamodule=data_of(faces))
    assert not task.likelihood.frozen, "training goes on with a σ that follows it"
    assert tiny(Laplace()).squared_error_of(batch) is None, "it has no σ that all values share"


def test_latents_become_images_and_draws():
    task, image = tiny(Laplace()), torch.rand(5, 1, 16, 16)
    with torch.no_grad():
        mean, log_variance = task.posterior(image)
        assert torch.equal(task.encode(image), mean)
        assert log_variance.shape == mean.shape == (5, 4)
        drawn = [task.draw(mean, torch.Generator().manual_seed(seed)) for seed in (0, 0, 1)]
        assert torch.equal(drawn[0], drawn[1])
        assert not torch.equal(drawn[0], drawn[2])
        assert (drawn[0] - task.decode(mean)).std() > 0.01
        assert torch.equal(task(image), task.decode(mean))
        elbo = task.elbo_of({"image": image, "n": torch.arange(5)})
        torch.testing.assert_close(elbo[3:4], task.elbo_of({"image": image[3:4], "n": torch.tensor([0])}))


def test_half_precision_leaves_room_for_the_noise_within_a_level():
    target = torch.full((1, 1, 16, 16), 200 / 255)
    whole, half = (
        tiny()._dequantised(image, [0], Purpose.DEQUANTISATION, seed=0) for image in (target, target.bfloat16())
    )
    assert len(half.unique()) > 250
    torch.testing.assert_close(half, whole, atol=1 / 255, rtol=0)


@pytest.mark.parametrize("likelihood", [None, Laplace()])
def test_with_a_linear_part_training_begins_at_the_image_that_pca_draws(faces, likelihood):
    network = ConvAutoencoder(
        [16, 16], channels=[8], latent_dim=2, per_latent=2, per_value=1 + bool(likelihood), linear=True
    )
    task, data = VariationalAutoencoder(network, likelihood), data_of(faces)
    data.setup("fit")
    (images,) = data.targets("train")
    pca, image = fit_principal([images], 2), torch.from_numpy(images)
    task.begin_at(pca)
    with torch.no_grad():
        torch.testing.assert_close(task(image), pca.reconstruct(image).clamp(0, 1), atol=1e-4, rtol=0)
        torch.testing.assert_close(task.posterior(image)[0].std(0), torch.ones(2), atol=1e-3, rtol=0)


def test_what_does_not_fit_is_said_in_a_line():
    with pytest.raises(UserError, match=r"needs network.init_args\.per_latent: 2, not 1"):
        VariationalAutoencoder(ConvAutoencoder([16, 16]))
    with pytest.raises(UserError, match=r"needs network.init_args\.per_value: 2, not 1"):
        VariationalAutoencoder(ConvAutoencoder([16, 16], per_latent=2), Laplace())
    with pytest.raises(UserError, match="standardise: false"):
        VariationalAutoencoder(ConvAutoencoder([16, 16], per_latent=2, standardise=True))
    with pytest.raises(UserError, match="Bernoulli needs linear: false"):
        VariationalAutoencoder(ConvAutoencoder([16, 16], per_latent=2, linear=True), Bernoulli())
    with pytest.raises(UserError, match="free_bits must be at least 0"):
        tiny(free_bits=-1.0)
    assert VariationalAutoencoder(likelihood=Laplace()).network.per_value == 2


RECIPE = {
    "class_path": "img2img.tasks.VariationalAutoencoder",
    "init_args": {
        "network": {
            "class_path": "img2img.networks.ConvAutoencoder",
            "init_args": {"image_size": [16, 16], "channels": [8, 8], "latent_dim": 4, "per_latent": 2},
        },
        "likelihood": {"class_path": "img2img.tasks.SharedGaussian"},
    },
}


def test_a_checkpoint_brings_its_sigma(faces):
    task = img2img.build(RECIPE)
    trainer = trainer_of(max_steps=2)
    trainer.fit(task, datamodule=data_of(faces))
    task.freeze_scale(0.02)
    trainer.save_checkpoint("vae.ckpt")
    again, image = img2img.load("vae.ckpt"), torch.rand(2, 1, 16, 16)
    assert again.likelihood.frozen
    with torch.no_grad():
        assert torch.equal(again.elbo(image, torch.ones(2, 4)).total, task.eval().elbo(image, torch.ones(2, 4)).total)


@pytest.mark.slow
def test_two_processes_measure_what_one_measures(faces, capsys):
    task = img2img.build(RECIPE)
    trainer = trainer_of(max_steps=2)
    trainer.fit(task, datamodule=data_of(faces))
    trainer.save_checkpoint("vae.ckpt")
    flags = [
        *("test", "--config", "vae.yaml", f"--data.root={faces}", "--data.image_size=[16,16]"),
        *("--model.network.init_args.image_size=[16,16]", "--model.network.init_args.channels=[8,8]"),
        *("--model.network.init_args.latent_dim=4", "--model.network.init_args.linear=false"),
        *("--ckpt_path=vae.ckpt", "--trainer.accelerator=cpu"),
        *("--trainer.precision=64-true", "--trainer.enable_progress_bar=false"),
    ]
    os.environ.pop("IMG2IMG_RUN", None)
    alone, shared = (
        {name: float(value) for name, value in table(run("-m", "img2img", *flags, *more))}
        for more in ([], ["--trainer.strategy=ddp", "--trainer.devices=2"])
    )
    assert re.search("bits_per_dim_iw", " ".join(alone))
    assert shared == pytest.approx(alone, rel=1e-9)
