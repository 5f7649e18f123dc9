"""Whether tiles change anything: images restored whole and in tiles by each network, with random weights.

    python benchmarks/tiles.py [--cases 50] [--seed 0]

For each network, draws random image sizes, tile sides and channel widths, restores a random image in float32 whole and
in tiles, and prints the largest difference, and how the 8-bit outputs differ. All weights are random, because new
networks return their input, which would hide seams.
"""

from __future__ import annotations

import argparse
import platform
import time
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor, nn

from img2img.networks import BottleneckAutoencoder, InpaintingUNet, Padded, RestorationUNet, receptive_field_of
from img2img.tasks import Colorization, Inpainting, Restoration
from img2img.tiling.geometry import Cut, tiling_by_side
from img2img.tiling.stitch import restore_in_tiles

Draw = np.random.Generator


def denoiser(draw: Draw) -> Restoration:
    """Returns the default task with one to three levels."""
    channels = [int(draw.integers(4, 17)) for _ in range(draw.integers(1, 4))]
    return Restoration(RestorationUNet(channels=channels, blocks=int(draw.integers(1, 3))))


def colouring(draw: Draw) -> Restoration:
    """Returns a colorization task with the config's network, narrower."""
    channels = [int(draw.integers(4, 13)) for _ in range(draw.integers(1, 4))]
    return Colorization(RestorationUNet(1, 2, channels, 1, shuffle=4, bias=True, residual=False))


def filling(draw: Draw) -> Restoration:
    """Returns an inpainting task."""
    channels = [int(draw.integers(4, 13)) for _ in range(draw.integers(1, 3))]
    return Inpainting(InpaintingUNet(channels=channels, blocks=1, levels=int(draw.integers(1, 6))))


def bottleneck(draw: Draw) -> Restoration:
    """Returns an autoencoder without skip connections."""
    channels = [int(draw.integers(4, 17)) for _ in range(draw.integers(1, 4))]
    return Restoration(BottleneckAutoencoder(channels=channels, code_channels=4))


def padded(draw: Draw) -> Restoration:
    """Returns a network that needs multiples of 4 and declares no receptive field."""
    width = int(draw.integers(4, 13))
    layers = [nn.Conv2d(3, width, 4, 4), nn.ReLU(), nn.Conv2d(width, width, 3, padding=1), nn.ReLU()]
    return Restoration(Padded(nn.Sequential(*layers, nn.ConvTranspose2d(width, 3, 4, 4)), 4))


KINDS: tuple[Callable[[Draw], Restoration], ...] = (denoiser, colouring, filling, bottleneck, padded)


def rough(task: Restoration, seed: int) -> Restoration:
    """Returns the task in eval mode with random weights that keep activations bounded."""
    generator = torch.Generator().manual_seed(seed)
    for weight in task.network.parameters():
        spread = weight[0].numel() ** -0.5 if weight.dim() > 1 else 0.05
        with torch.no_grad():
            weight.copy_(torch.randn(weight.shape, generator=generator) * spread)
    return task.eval()


def case(kind: Callable[[Draw], Restoration], draw: Draw) -> tuple[str, Tensor, Tensor]:
    """Returns a description of the case, and the image restored whole and in tiles."""
    task = rough(kind(draw), int(draw.integers(1 << 30)))
    seen = receptive_field_of(task.network, task.network_inputs)
    assert seen is not None, "all our networks have a finite receptive field"
    height, width = (int(n) for n in draw.integers(1, 700, 2))
    side, channels = int(draw.integers(16, 300)), 1 if kind is colouring else int(draw.choice([1, 3]))
    image = torch.from_numpy(draw.random((1, channels, height, width), np.float32))
    mask = torch.from_numpy((draw.random((1, 1, height, width)) < 0.6).astype(np.float32)) if task.needs_mask else None
    tiling = tiling_by_side(height, width, Cut(seen.radius, seen.stride), side)
    with torch.inference_mode():
        whole, tiled = task.restore_tile(image, mask), restore_in_tiles(task, image, mask, tiling)
    count = len(tiling.rows) * len(tiling.columns)
    words = f"{width}×{height}×{channels}, {count} tiles of {side}, radius {seen.radius}, stride {seen.stride}"
    return words, whole, tiled


def main() -> None:
    """Runs the cases and prints the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("--cases", type=int, default=50, help="for each network")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--verbose", action="store_true", help="print every case")
    options = parser.parse_args()
    print(f"{'network':12} {'cases':>5} {'tiles':>6} {'largest difference':>19} {'8-bit equal':>13} {'largest':>8}")
    began = time.monotonic()
    for number, kind in enumerate(KINDS):
        draw = np.random.default_rng([options.seed, number])
        largest, tiles, equal, values, levels = 0.0, 0, 0, 0, 0
        for _ in range(options.cases):
            words, whole, tiled = case(kind, draw)
            difference = float((whole - tiled).abs().max())
            bytes_of = [(image * 255).round().to(torch.int16) for image in (whole, tiled)]
            apart = (bytes_of[0] - bytes_of[1]).abs()
            largest, levels = max(largest, difference), max(levels, int(apart.max()))
            equal, values = equal + int((apart == 0).sum()), values + apart.numel()
            tiles += int(words.split(", ")[1].split()[0])
            if options.verbose:
                print(f"  {words}: {difference:.1e}")
        share = f"{100 * equal / values:.5f} %"
        print(f"{kind.__name__:12} {options.cases:5} {tiles:6} {largest:19.1e} {share:>13} {levels:8}")
    print(f"seed {options.seed}, torch {torch.__version__}, {platform.machine()}, {time.monotonic() - began:.0f} s")


if __name__ == "__main__":
    main()
