"""`img2img sample`: images that an autoencoder imagines."""

from __future__ import annotations

from collections.abc import Sequence

from img2img.commands.carry_out import carry_out
from img2img.latents.sampling import SampleResult, sample
from img2img.signature_parser import parser_of


def run(command: str, arguments: Sequence[str]) -> None:
    """Draws images."""
    options = vars(parser_of(sample, command).parse_args(arguments))

    def describe(result: SampleResult) -> list[str]:
        return [f"{options['n'] - len(result.problems)} image(s) drawn from {result.origin}: {options['output']}"]

    carry_out(sample, options, describe)
