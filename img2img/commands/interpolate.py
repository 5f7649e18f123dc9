"""`img2img interpolate`: from one image to another, through the latents between them."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path

from img2img.errors import printable
from img2img.latents.interpolation import interpolate
from img2img.signature_parser import parser_of


def run(command: str, arguments: Sequence[str]) -> None:
    """Draws the way from one image to another."""
    description = "Draw what an autoencoder sees between two images, in equal steps."
    parser = parser_of(interpolate, command, description, positional=["first", "second", "output"])
    options = vars(parser.parse_args(arguments))
    sys.path.append(os.getcwd())  # networks of one's own
    way = interpolate(**options)
    first, second = (Path(options[end]).name for end in ("first", "second"))
    print(printable(f"{len(way.images)} images from {first} to {second}: {options['output']}"))
