"""`img2img preview`: numbered pairs of the stream as a picture, without training: what the network will see."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from img2img.commands.arguments import find_config
from img2img.errors import UserError

if TYPE_CHECKING:
    from img2img.data.pairs import Sample

COLUMNS = 4


def run(command: str, arguments: Sequence[str]) -> None:
    """Draws the pairs.

    Raises:
        UserError: If the config does not exist or has no data of ours.
    """
    parser = argparse.ArgumentParser(
        f"img2img {command}", description="Draw numbered (input, target) pairs of a config's training stream."
    )
    parser.add_argument("output", help="the picture to write, such as pairs.png")
    parser.add_argument("--config", required=True, help="a YAML here or among the shipped ones")
    parser.add_argument("--first", type=int, default=0, help="number of the first pair (default: 0)")
    parser.add_argument("--n", type=int, default=16, help="how many pairs (default: 16)")
    parser.add_argument(
        "--seed_everything", type=int, help="seed of the stream, as in fit (default: the config's, or 0)"
    )
    options, flags = parser.parse_known_args(arguments)
    config = find_config(options.config)
    other = [flag for flag in flags if flag.startswith("-") and not flag.startswith("--data.")]
    if other or options.n < 1 or options.first < 0:
        raise UserError(f"unknown option {other[0]}" if other else "--n must be at least 1 and --first at least 0")
    sys.path.append(os.getcwd())  # classes of one's own, in a module beside the config
    from img2img.commands.from_config import task_and_data
    from img2img.imaging.files import Image, write_image

    task, data = task_and_data(config, flags, options.seed_everything)
    data.prepare_data()
    data.setup("fit")
    pairs = data.training_pairs()
    samples = [pairs[n] for n in range(options.first, options.first + options.n)]
    write_image(Path(options.output), Image(draw_pairs(samples, getattr(task, "needs_mask", False)), None, {}))
    print(f"Pairs {options.first} to {options.first + options.n - 1} of {config.name}: {options.output}")


def draw_pairs(samples: Sequence[Sample], sees_mask: bool) -> Any:
    """Returns the picture, H×W×3 uint8: rows of pairs, each with its number and its image's name above.

    Args:
        samples: The pairs.
        sees_mask: Whether the network is told where holes are; they are drawn in red-violet then.
    """
    import numpy as np
    from torchvision.utils import make_grid

    from img2img.callbacks.grid import GAP, PAPER, mark_hole, write_line

    cells = []
    for sample in samples:
        seen, target, mask = (sample[key].permute(2, 0, 1) for key in ("input", "target", "mask"))
        shown = [image.clamp(0, 1) for image in (mark_hole(seen, mask) if sees_mask else seen, target)]
        channels = max(image.shape[0] for image in shown)
        tiles = [image.expand(channels, -1, -1) for image in shown]
        grid = make_grid(tiles, nrow=2, padding=GAP, pad_value=PAPER[0] / 255)
        pixels = (grid * 255).round().byte().permute(1, 2, 0).numpy()
        caption = f"{sample['n']}  {Path(sample['path']).stem}"
        cells.append(np.concatenate([write_line([(0, caption)], pixels.shape[1]), pixels]))
    blank = np.full_like(cells[0], PAPER[0])
    cells += [blank] * (-len(cells) % COLUMNS)
    rows = [np.concatenate(cells[i : i + COLUMNS], axis=1) for i in range(0, len(cells), COLUMNS)]
    return np.concatenate(rows)
