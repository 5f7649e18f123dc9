"""Autoencoders of faces against PCA with as many latents, and new faces from a VAE.

    python -m benchmarks.faces smiles [--latents 10 32] [--seeds 0 1 2] [--sheets DIR]

For each seed, which also divides the folder of faces, trains `autoencode.yaml` and `vae.yaml` on the training images,
with another network, dense layers that start at the PCA solution (`linear: true`), and with randomly mirrored images.
Measures the squared error per value on the held-out test images, and PCA's; for the VAE also what `test` prints for its
best checkpoint. `--sheets` draws samples, traversals and interpolations of the first seed's VAEs.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import numpy as np
import torch
from lightning.pytorch import Trainer
from sklearn.decomposition import PCA

from benchmarks.autoencoders import data_of, fit, images_of, machine, open_run, paths_of, plus_minus
from img2img import interpolate, sample, traverse
from img2img.data import WholeImages
from img2img.tasks import Autoencoder

SIZE = (64, 64)


def error_of(task: Autoencoder, images: np.ndarray) -> float:
    """Returns the mean squared error per value of the reconstructions."""
    with torch.inference_mode():
        parts = [task(batch) - batch for batch in torch.from_numpy(images).split(128)]
    return float(torch.cat(parts).square().mean())


def pca_error(training: np.ndarray, images: np.ndarray, latents: int) -> float:
    """Returns the same for PCA with as many latents, fitted to the training images and clamped to [0, 1]."""
    pca = PCA(latents, svd_solver="randomized", iterated_power=7, random_state=0).fit(
        training.reshape(len(training), -1)
    )
    flat = images.reshape(len(images), -1)
    return float(((pca.inverse_transform(pca.transform(flat)).clip(0, 1) - flat) ** 2).mean())


def bound_of(run: Path, data: WholeImages) -> dict[str, float]:
    """Returns the figures of `img2img test` for a variational autoencoder."""
    trainer = Trainer(
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    (measured,) = trainer.test(open_run(run, "best.ckpt"), datamodule=data, verbose=False)
    names = ("bits_per_dim", "bits_per_dim_iw", "kl", "active_units")
    return {name: float(measured[f"test/{name}"]) for name in names}


def draw_sheets(run: Path, data: WholeImages, folder: Path) -> None:
    """Draws samples, and interpolations and traversals of held-out faces."""
    model, faces = run / "best.ckpt", paths_of(data, "test")
    sample(folder / "samples.png", model, overwrite=True)
    for i, name in enumerate(("first", "second", "third")):
        interpolate(faces[i], faces[-1 - i], folder / f"interpolation_{name}.png", model, overwrite=True)
    traverse(faces[0], folder / "traversal.png", model, overwrite=True)


def run(config: str, options: argparse.Namespace, latents: int, seed: int) -> Path:
    """Trains a run, unless it is finished; returns its folder."""
    runs = options.runs / f"{latents}_{seed}"
    flags = [
        "--model.network=DenseAutoencoder",
        f"--model.network.init_args.image_size={list(SIZE)}",
        f"--model.network.init_args.latent_dim={latents}",
        "--model.network.init_args.hidden=[512,256]",
        "--model.network.init_args.linear=true",
        *(["--model.network.init_args.per_latent=2"] if config == "vae.yaml" else []),
        *("--model.optimizer=null", "--model.lr=1e-3"),  # AdamW: dense layers that start at PCA need no faster one
        "--data.batch_size=64",
    ]
    flags += ["--data.geometry=[{class_path: HorizontalFlip, init_args: {p: 0.5}}]"]
    return fit(config, options.folder, options.steps, seed, runs, flags)


def main() -> None:
    """Trains what is missing and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, help="faces, such as smiles")
    parser.add_argument("--latents", type=int, nargs="+", default=[10, 32])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--configs", nargs="+", default=["autoencode.yaml", "vae.yaml"])
    parser.add_argument("--steps", type=int, default=1500)
    parser.add_argument(
        "--runs", type=Path, default=Path("runs/faces"), help="finished runs here are not trained again"
    )
    parser.add_argument("--sheets", type=Path, help="folder for pictures of the first seed's VAEs")
    options = parser.parse_args()
    begun = time.perf_counter()
    for latents in options.latents:
        errors: dict[str, list[float]] = {}
        bounds: dict[str, list[float]] = {}
        for seed in options.seeds:
            data = data_of(options.folder, SIZE, seed)
            held_out = images_of(data, "test")
            errors.setdefault("PCA", []).append(pca_error(images_of(data, "train"), held_out, latents))
            for config in options.configs:
                task = open_run(run(config, options, latents, seed))
                errors.setdefault(config, []).append(error_of(task, held_out))
            print(
                f"{latents} latents, seed {seed}: " + ", ".join(f"{n} {e[-1]:.6f}" for n, e in errors.items()),
                flush=True,
            )
            if "vae.yaml" in options.configs:
                vae = run("vae.yaml", options, latents, seed)
                for name, value in bound_of(vae, data).items():
                    bounds.setdefault(name, []).append(value)
                if options.sheets is not None and seed == options.seeds[0]:
                    draw_sheets(vae, data, options.sheets / str(latents))
        for name, values in bounds.items():
            print(f"{latents} latents, vae.yaml: {name} {plus_minus(values, 3)}")
        for name, values in errors.items():
            print(f"{latents} latents, {name}: {plus_minus(values, 6)} on {len(held_out)} held-out images")
    print(f"{options.steps} steps each; {time.perf_counter() - begun:.0f} s; {machine()}")


if __name__ == "__main__":
    main()
