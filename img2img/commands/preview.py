"""`img2img preview`: draws numbered pairs of the training stream, as the network will see them."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from img2img.errors import UserError
from img2img.imaging.formats import WRITABLE
from img2img.training.preflight import find_config


def run(command: str, arguments: Sequence[str]) -> None:
    """Draws the pairs.

    Raises:
        UserError: If the config does not exist, its data module does not make pairs, or the picture cannot be
            written.
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
    if Path(options.output).suffix.lower() not in WRITABLE:
        raise UserError(f"{options.output}: the formats of pictures are {', '.join(sorted(WRITABLE))}")
    if other or options.n < 1 or options.first < 0:
        raise UserError(f"unknown option {other[0]}" if other else "--n must be at least 1 and --first at least 0")
    sys.path.append(os.getcwd())  # for classes of the user's own, in a module beside the config
    from img2img.imaging.files import Image, write_image
    from img2img.training.from_config import task_and_data
    from img2img.training.preview import draw_pairs

    task, data = task_and_data(config, flags, options.seed_everything)
    data.prepare_data()
    data.setup("fit")
    pairs = data.training_pairs()
    samples = [pairs[n] for n in range(options.first, options.first + options.n)]
    write_image(Path(options.output), Image(draw_pairs(samples, getattr(task, "needs_mask", False)), None, {}))
    print(f"Pairs {options.first} to {options.first + options.n - 1} of {config.name}: {options.output}")
