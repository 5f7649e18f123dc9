"""`img2img encode`: every image of a folder as the few numbers that an autoencoder makes of it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from img2img.commands.carry_out import carry_out
from img2img.latents.encoding import encode
from img2img.latents.runner import Devices
from img2img.signature_parser import parser_of

if TYPE_CHECKING:
    from img2img.latents.table import LatentTable


def run(command: str, arguments: Sequence[str]) -> None:
    """Writes the table of a folder, and says how well the model reconstructs its images."""
    options = vars(parser_of(encode, command, shared=[Devices]).parse_args(arguments))

    def describe(table: LatentTable) -> list[str]:
        error = f"error {table.error.mean():.5f}"
        linear = "" if table.pca_error is None else f", PCA {table.pca_error.mean():.5f}"
        said = f"{len(table)} image(s) of {len(set(table.label))} label(s): {options['output']}; {error}{linear}"
        projector = options["projector"]
        return [said] if projector is None else [said, f"Projector: img2img watch {projector}"]

    carry_out(encode, options, describe)
