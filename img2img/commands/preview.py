"""`img2img preview`: draws numbered pairs of the training stream, as the network will see them."""

from __future__ import annotations

import argparse
import re
from collections.abc import Sequence
from pathlib import Path

from img2img.errors import UserError
from img2img.imaging.formats import WRITABLE
from img2img.inference.checks import check_output_file
from img2img.own_classes import look_for
from img2img.training.preflight import find_config, modules_named


def run(command: str, arguments: Sequence[str]) -> None:
    """Draws the pairs.

    Raises:
        UserError: If the picture's format is unknown, an option is, or a number is out of its range.
    """
    about = "Draw numbered (input, target) pairs of a config's training stream."
    parser = argparse.ArgumentParser(f"img2img {command}", description=about)
    parser.add_argument("output", help="the picture to write, such as pairs.png")
    parser.add_argument("--config", required=True, help="a YAML here or among the shipped ones")
    parser.add_argument("--first", type=int, default=0, help="number of the first pair (default: 0)")
    parser.add_argument("--n", type=int, default=16, help="how many pairs (default: 16)")
    parser.add_argument("--samples", nargs="+", metavar="N", help="numbers of the pairs instead, such as 7 16-31")
    parser.add_argument("--seed_everything", type=int, help="seed of the stream (default: the config's, or 0)")
    parser.add_argument("--overwrite", action="store_true", help="replace the picture if it is there")
    options, flags = parser.parse_known_args(arguments)
    config = find_config(options.config)
    other = [flag for flag in flags if flag.startswith("-") and not flag.startswith("--data.")]
    if Path(options.output).suffix.lower() not in WRITABLE:
        raise UserError(f"{options.output}: the formats of pictures are {', '.join(sorted(WRITABLE))}")
    if other or options.n < 1 or options.first < 0:
        raise UserError(f"unknown option {other[0]}" if other else "--n must be at least 1 and --first at least 0")
    given = options.samples or [f"{options.first}-{options.first + options.n - 1}"]
    numbers = [number for text in given for number in _numbers(text)]
    check_output_file(Path(options.output), config, options.overwrite)
    look_for(modules_named([config], flags), config.parent)
    from img2img.imaging.files import Image, write_image
    from img2img.training.from_config import task_and_data
    from img2img.training.preview import draw_pairs

    task, data = task_and_data(config, flags, options.seed_everything)
    data.prepare_data()
    data.setup("fit")
    picture = draw_pairs(data.training_pairs(), numbers, getattr(task, "needs_mask", False))
    write_image(Path(options.output), Image(picture, None, {}))
    named = " ".join(options.samples or [f"{options.first} to {options.first + options.n - 1}"])
    print(f"Pairs {named} of {config.name}: {options.output}")


def _numbers(text: str) -> range:
    """Returns the numbers that a word of `--samples` stands for."""
    found = re.fullmatch(r"(\d+)(?:-(\d+))?", text)
    if not found or int(found[2] or found[1]) < int(found[1]):
        raise UserError(f"--samples takes numbers and ranges, such as 7 16-31, not {text}")
    return range(int(found[1]), int(found[2] or found[1]) + 1)
