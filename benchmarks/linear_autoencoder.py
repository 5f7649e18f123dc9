"""A linear autoencoder against PCA: the axes and the error of both.

    python -m benchmarks.linear_autoencoder orl_faces

Trains the task of `pca.yaml` on the training images of a folder by gradient descent, and compares it with
scikit-learn's PCA of the same images: |cos| between the first axes, and the mean squared error of both.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from sklearn.decomposition import PCA

from benchmarks.autoencoders import data_of, fit, images_of, machine, open_run
from img2img.tasks.pca import fit_principal, principal_axes


def main() -> None:
    """Trains and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, help="images, such as orl_faces")
    parser.add_argument("--size", type=int, nargs=2, default=(112, 92), help="height and width (default: 112 92)")
    parser.add_argument("--latents", type=int, default=16, help="latents for each image (default: 16)")
    parser.add_argument("--steps", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    begun = time.perf_counter()
    flags = [
        f"--model.network.init_args.latent_dim={options.latents}",
        *(f"--{part}.image_size={list(options.size)}" for part in ("data", "model.network.init_args")),
    ]
    with tempfile.TemporaryDirectory() as runs:
        task = open_run(fit("pca.yaml", options.folder, options.steps, options.seed, Path(runs), flags))
    images = images_of(data_of(options.folder, options.size, options.seed), "train")
    values = images.reshape(len(images), -1).astype(np.float64)
    reference = PCA(options.latents, svd_solver="full").fit(values)
    incremental = fit_principal([images], options.latents)
    learnt = principal_axes(task.network, incremental, [images])
    with torch.inference_mode():
        drawn = task.network(torch.from_numpy(images)).numpy().reshape(values.shape)
    best = reference.inverse_transform(reference.transform(values))
    error, least = float(((drawn - values) ** 2).mean()), float(((best - values) ** 2).mean())
    print(
        f"{len(images)} images of {options.size[0]}×{options.size[1]}, {options.latents} latents, {options.steps} steps"
    )
    print(f"seed {options.seed}, {time.perf_counter() - begun:.0f} s, {machine()}")
    print("axis  variance   |cos| trained   |cos| incremental SVD")
    for k in range(min(10, options.latents)):
        cosines = [
            abs(float(np.dot(axes[k].numpy(), reference.components_[k]))) for axes in (learnt.axes, incremental.axes)
        ]
        print(f"{k + 1:4}  {reference.explained_variance_[k]:8.3f}   {cosines[0]:.6f}        {cosines[1]:.6f}")
    print(f"error: autoencoder {error:.7f}, PCA {least:.7f}, ratio {error / least:.5f}")


if __name__ == "__main__":
    main()
