"""Points on a curve: a nonlinear autoencoder keeps in one latent what PCA cannot.

    python -m benchmarks.parabola

"Images" of two values (x, x² + ε), x uniform in [-1, 1], ε ~ N(0, 1e-4); one latent. The error is summed over both
values, in their own units, on held-out points. PCA leaves 4/45 = 0.0889, the variance of x².
"""

from __future__ import annotations

import argparse
import time

import numpy as np
import torch
from lightning.pytorch import Trainer
from sklearn.decomposition import PCA
from torch import Tensor
from torch.utils.data import DataLoader

from benchmarks.autoencoders import machine, plus_minus
from img2img.networks import DenseAutoencoder
from img2img.tasks import Autoencoder
from img2img.trainer import quieten


class Points(torch.utils.data.Dataset[dict[str, Tensor]]):
    """Points as images of 1×2 pixels, each both input and target."""

    def __init__(self, points: Tensor) -> None:
        self.points = points

    def __len__(self) -> int:
        return len(self.points)

    def __getitem__(self, n: int) -> dict[str, Tensor]:
        return {"input": self.points[n], "target": self.points[n], "mask": torch.zeros(1, 1, 2)}


def points(count: int, seed: int) -> Tensor:
    """Returns random points on the curve, count×1×1×2."""
    draws = np.random.default_rng(seed)
    x = draws.uniform(-1, 1, count)
    return torch.from_numpy(np.stack([x, x**2 + draws.normal(0, 1e-2, count)], 1)).float().view(-1, 1, 1, 2)


def error(drawn: Tensor, target: Tensor) -> float:
    """Returns the squared error, summed over both values, mean over the points."""
    return float(((drawn - target) ** 2).flatten(1).sum(1).mean())


def run(seed: int, steps: int) -> tuple[float, float]:
    """Returns the errors of autoencoder and PCA on 20,000 new points."""
    training, held_out = points(4096, seed), points(20_000, 1000 + seed)
    torch.manual_seed(seed)
    task = Autoencoder(DenseAutoencoder((1, 2), 1, latent_dim=1, hidden=(64, 64)), lr=3e-3, betas=(0.9, 0.999))
    trainer = Trainer(
        max_steps=steps,
        accelerator="auto",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
    )
    trainer.fit(task, DataLoader(Points(training), batch_size=256, shuffle=True))
    with torch.inference_mode():
        drawn = task.eval().network(held_out)  # not clamped: x goes down to -1
    pca = PCA(1).fit(training.flatten(1).numpy())
    flat = held_out.flatten(1).numpy()
    linear = torch.from_numpy(pca.inverse_transform(pca.transform(flat))).view_as(held_out)
    return error(drawn, held_out), error(linear, held_out)


def main() -> None:
    """Trains with each seed and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=2000)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    options = parser.parse_args()
    quieten()
    begun = time.perf_counter()
    errors = [run(seed, options.steps) for seed in options.seeds]
    for seed, (nonlinear, linear) in zip(options.seeds, errors, strict=True):
        print(f"seed {seed}: autoencoder {nonlinear:.6f}, PCA {linear:.6f}")
    means = [plus_minus(column, 6) for column in zip(*errors, strict=True)]
    print(f"autoencoder {means[0]}, PCA {means[1]}, 4/45 = {4 / 45:.6f}")
    print(f"{options.steps} steps each, {time.perf_counter() - begun:.0f} s, {machine()}")


if __name__ == "__main__":
    main()
