"""Whether tiles change anything: images restored whole and in tiles, by each of our networks with random weights.

    python benchmarks/tiles.py [--cases 50] [--seed 0]

Draws for each network random sizes, tile sides and channels of width, restores a random image in float32 whole and in
tiles, and prints the largest difference, and how the 8-bit outputs differ. Weights are drawn anew for every layer: new
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

from img2img.imaging.tiling import Cut, tiling_by_side
from img2img.networks import BottleneckAutoencoder, InpaintingUNet, Padded, RestorationUNet, reach_of
from img2img.tasks import Colorization, Inpainting, Restoration
from img2img.tasks.restorer import Restorer
from img2img.tasks.tiled import restore_in_tiles

Draw = np.random.Generator


def denoiser(draw: Draw) -> Restorer:
    """Returns the default task with one to three levels."""
    channels = [int(draw.integers(4, 17)) for _ in range(draw.integers(1, 4))]
    return Restoration(RestorationUNet(channels=channels, blocks=int(draw.integers(1, 3))))


def colouring(draw: Draw) -> Restorer:
    """Returns a colouring with the network of the config, narrower."""
    channels = [int(draw.integers(4, 13)) for _ in range(draw.integers(1, 4))]
    return Colorization(RestorationUNet(1, 2, channels, 1, shuffle=4, bias=True, residual=False))


def filling(draw: Draw) -> Restorer:
    """Returns a filling of holes."""
    channels = [int(draw.integers(4, 13)) for _ in range(draw.integers(1, 3))]
    return Inpainting(InpaintingUNet(channels=channels, blocks=1, levels=int(draw.integers(1, 6))))


def bottleneck(draw: Draw) -> Restorer:
    """Returns an autoencoder without skips."""
    channels = [int(draw.integers(4, 17)) for _ in range(draw.integers(1, 4))]
    return Restoration(BottleneckAutoencoder(channels=channels, code_channels=4))


def padded(draw: Draw) -> Restorer:
    """Returns a network that knows multiples of 4 only, and says nothing of how far it sees."""
    width = int(draw.integers(4, 13))
    layers = [nn.Conv2d(3, width, 4, 4), nn.ReLU(), nn.Conv2d(width, width, 3, padding=1), nn.ReLU()]
    return Restoration(Padded(nn.Sequential(*layers, nn.ConvTranspose2d(width, 3, 4, 4)), 4))


KINDS: tuple[Callable[[Draw], Restorer], ...] = (denoiser, colouring, filling, bottleneck, padded)


def rough(task: Restorer, seed: int) -> Restorer:
    """Returns the task in eval mode with random weights of which nothing explodes."""
    generator = torch.Generator().manual_seed(seed)
    for weight in task.network.parameters():
        spread = weight[0].numel() ** -0.5 if weight.dim() > 1 else 0.05
        with torch.no_grad():
            weight.copy_(torch.randn(weight.shape, generator=generator) * spread)
    return task.eval()


def case(kind: Callable[[Draw], Restorer], draw: Draw) -> tuple[str, Tensor, Tensor]:
    """Returns what was drawn, in words, and the image restored whole and in tiles."""
    task = rough(kind(draw), int(draw.integers(1 << 30)))
    reach = reach_of(task.network, task.network_inputs)
    assert reach is not None, "all of ours see a finite distance"
    height, width = (int(n) for n in draw.integers(1, 700, 2))
    side, channels = int(draw.integers(16, 300)), 1 if kind is colouring else int(draw.choice([1, 3]))
    image = torch.from_numpy(draw.random((1, channels, height, width), np.float32))
    mask = torch.from_numpy((draw.random((1, 1, height, width)) < 0.6).astype(np.float32)) if task.needs_mask else None
    tiling = tiling_by_side(height, width, Cut(reach.radius, reach.stride), side)
    with torch.inference_mode():
        whole, tiled = task.restore_tile(image, mask), restore_in_tiles(task, image, mask, tiling)
    count = len(tiling.rows) * len(tiling.columns)
    words = f"{width}×{height}×{channels}, {count} tiles of {side}, radius {reach.radius}, stride {reach.stride}"
    return words, whole, tiled


def main() -> None:
    """Draws, compares and prints."""
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
