"""`img2img interpolate`: from one image to another, through the latents between them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from img2img.commands.carry_out import carry_out
from img2img.latents.interpolation import interpolate
from img2img.signature_parser import parser_of


def run(command: str, arguments: Sequence[str]) -> None:
    """Draws the way from one image to another."""
    parser = parser_of(interpolate, command, positional=["first", "second", "output"])
    options = vars(parser.parse_args(arguments))
    first, second = (Path(options[end]).name for end in ("first", "second"))
    carry_out(
        interpolate, options, lambda way: [f"{len(way.images)} images from {first} to {second}: {options['output']}"]
    )
