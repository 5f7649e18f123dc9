"""`img2img reconstruct`: a folder of images as an autoencoder draws them."""

from __future__ import annotations

from collections.abc import Sequence

from img2img.commands.carry_out import carry_out
from img2img.latents.reconstruction import reconstruct
from img2img.latents.runner import Devices
from img2img.signature_parser import parser_of


def run(command: str, arguments: Sequence[str]) -> None:
    """Writes the reconstructions of a folder."""
    options = vars(parser_of(reconstruct, command, shared=[Devices]).parse_args(arguments))
    place = options["output"]
    carry_out(reconstruct, options, lambda result: [f"{len(result.files)} image(s) reconstructed: {place}"])
