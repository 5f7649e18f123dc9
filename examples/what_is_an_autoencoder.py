"""What is an autoencoder? Prints the figures of docs/what_is_an_autoencoder.md, and draws its pictures.

    python -m examples.what_is_an_autoencoder OUT UNSEEN FROM TO [FOLDER …]

FROM, TO and further folders hold images of one kind each, which the model learns; UNSEEN those of a kind that it never
sees. Takes minutes on one core.
"""

import argparse
import dataclasses
import time
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from benchmarks import parabola
from benchmarks.autoencoders import data_of, fit, images_of, machine, open_run
from benchmarks.faces import bound_of, error_of, pca_error
from img2img import edit, encode, evaluate_latents, interpolate, load, reconstruct, sample, score
from img2img.cli import main as img2img
from img2img.imaging.drawing import draw_sheet

LARGE, SMALL, SHOWN, NETWORK = (320, 320), (64, 64), 6, "--model.network.init_args"
CONV = ["--data.batch_size=8", f"{NETWORK}.linear=true", f"{NETWORK}.channels=[8,16,32,64]"]
CONV += [f"{part}.image_size={list(LARGE)}" for part in ("--data", NETWORK)]
DENSE = ["--model.network=DenseAutoencoder", f"{NETWORK}.per_latent=2", "--data.batch_size=64", "--model.lr=1e-3"]
DENSE += [f"{NETWORK}.linear=true", f"{NETWORK}.latent_dim=10", "--trainer.val_check_interval=20"]  # soon overfits


def pixels(paths: list[Path], size: tuple[int, int], mode: str = "L") -> Tensor:
    """Returns images N×C×H×W in [0, 1], all scaled to one size."""
    images = [np.asarray(Image.open(path).convert(mode).resize(size[::-1]), np.float32) / 255 for path in paths]
    return torch.from_numpy(np.stack([np.atleast_3d(image).transpose(2, 0, 1) for image in images]))


def draw(name: Path, rows: list[Tensor]) -> None:
    """Writes the first images of several batches, a row for each."""
    Image.fromarray(draw_sheet(torch.cat([row[:SHOWN].expand(-1, 3, -1, -1) for row in rows]), SHOWN)).save(name)


def few_numbers(known: Path, scored: Path, options: argparse.Namespace, runs: Path) -> None:
    """Ten numbers for each image: reconstruction, clusters, a direction, and what was never seen."""
    model, data = fit("autoencode.yaml", known, options.steps, 0, runs, CONV) / "best.ckpt", data_of(known, LARGE, 0)
    train, test = images_of(data, "train"), images_of(data, "test")
    ours, pca, mean = error_of(load(model), test), pca_error(train, test, 10), ((test - train.mean(0)) ** 2).mean()
    print(f"{train[0].size:,} pixels, 10 numbers: error {ours:.5f}, PCA {pca:.5f}, mean image {mean:.5f}")
    table = encode(known, runs / "latents.npz", model)
    flat = pixels([known / path for path in table.path], SMALL).flatten(1).numpy()
    dataclasses.replace(table, mu=flat, pca=None, pca_error=None).save(runs / "pixels.npz")
    for name in ("latents", "pixels"):
        found = evaluate_latents(runs / f"{name}.npz")["latents"]
        shown = (f"{key} {found[key]:.3f}" for key in ("kmeans_accuracy", "knn_accuracy", "nmi", "spearman"))
        print(found["numbers"], f"{name}:", ", ".join(shown))
    start, end = (known / folder.name for folder in options.folders[:2])
    moved = edit(start, runs / "moved", model, start, end, 2.0, plain=True)
    print(f"{start.name} or {end.name}, told apart by a line in the latents: {moved.told_apart:.3f}")
    rows = sorted(start.iterdir()), reconstruct(start, runs / "same", model).files, moved.files
    draw(options.output / "direction.jpg", [pixels(sorted(row)[:SHOWN], (160, 160)) for row in rows])
    never_seen = score(scored, None, model).table[options.unseen.name]
    for name in ("error", "neighbour", "mahalanobis"):
        print(f"{options.unseen.name}, never seen, by {name}: AUROC {never_seen[name].auroc:.3f}")


def variational_and_linear(known: Path, options: argparse.Namespace, runs: Path) -> None:
    """Latents of which random ones are images too; then what a linear autoencoder finds, and what it cannot."""
    run = fit("vae.yaml", known, 2 * options.steps, 0, runs, DENSE)
    print("VAE:", ", ".join(f"{name} {value:.3f}" for name, value in bound_of(run, data_of(known, SMALL, 0)).items()))
    sample(options.output / "samples.jpg", run / "best.ckpt", n=12, overwrite=True)
    ends = (min((known / folder.name).iterdir()) for folder in options.folders[:2])
    interpolate(*ends, options.output / "way.jpg", run / "best.ckpt", overwrite=True)
    statistics = open_run(fit("pca.yaml", known, 30 * options.steps, 0, runs)).statistics
    cosines = (statistics.axes.axes * statistics.pca.axes).sum(1).abs().tolist()
    print("linear autoencoder and PCA, |cos| of the axes:", *(f"{each:.3f}" for each in cosines))
    curved, straight = parabola.run(0, 20 * options.steps)
    print(f"y = x² + ε in one number: error {curved:.6f}, linear {straight:.6f}, 4/45 = {4 / 45:.6f}")


def restorers(known: Path, unseen: list[Path], options: argparse.Namespace, runs: Path) -> None:
    """Noise in, image out; gray in, colour out: the same idea with another input."""
    clean = pixels(unseen[:SHOWN], (192, 144), "RGB")
    noisy = (clean + 25 / 255 * torch.randn(clean.shape, generator=torch.Generator().manual_seed(0))).clamp(0, 1)
    restored = torch.cat([load("denoise").restore(image[None]) for image in noisy])
    before, after = (float(-10 * torch.log10((each - clean).square().mean())) for each in (noisy, restored))
    print(f"denoise, sigma 25: {before:.2f} dB before, {after:.2f} dB after")
    draw(options.output / "denoised.jpg", [noisy, restored, clean])
    smaller = [f"{NETWORK}.channels=[32,64,96]", "--data.crop_size=128", "--data.batch_size=4"]
    run = fit("colorize.yaml", known, 9 * options.steps, 0, runs, smaller)
    img2img(["test", f"--config={run / 'config.yaml'}", f"--ckpt_path={run / 'best.ckpt'}"])
    gray, task = pixels(unseen[:SHOWN], (192, 144)), load(run / "best.ckpt")
    draw(options.output / "coloured.jpg", [gray, torch.cat([task.restore(image[None]) for image in gray]), clean])


def main() -> None:
    """Trains, measures and draws."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("places", type=Path, nargs="+", metavar="FOLDER", help="OUT, UNSEEN, FROM, TO and others")
    parser.add_argument("--steps", type=int, default=100, help="of the first network, the others take more")
    options, begun = parser.parse_args(), time.perf_counter()
    options.output, options.unseen, *options.folders = options.places
    options.output.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory() as name:
        known, scored, runs = (Path(name) / part for part in ("known", "scored", "runs"))
        for folder in (*options.folders, options.unseen):
            for place in [scored / folder.name] if folder == options.unseen else [known / folder.name, scored / "good"]:
                place.mkdir(parents=True, exist_ok=True)
                for path in sorted(folder.resolve().iterdir()):
                    (place / f"{folder.name}_{path.name}").symlink_to(path)
        few_numbers(known, scored, options, runs)
        variational_and_linear(known, options, runs)
        restorers(known, sorted(options.unseen.iterdir()), options, runs)
    print(f"{time.perf_counter() - begun:.0f} s, {machine()}")


if __name__ == "__main__":
    main()
