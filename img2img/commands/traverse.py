"""`img2img traverse`: what each latent of an image means."""

from __future__ import annotations

from collections.abc import Sequence

from img2img.commands.carry_out import carry_out
from img2img.latents.traversal import Traversal, traverse
from img2img.signature_parser import parser_of


def run(command: str, arguments: Sequence[str]) -> None:
    """Draws an image with one latent after the other changed."""
    options = vars(parser_of(traverse, command).parse_args(arguments))

    def describe(found: Traversal) -> list[str]:
        most = "; ".join(f"z{d} {found.changes[d]:.2g}" for d in found.latents[:3])
        of_all = f"{len(found.latents)} of {len(found.changes)} latents"
        return [f"{of_all}, by mean squared change ({most}): {options['output']}"]

    carry_out(traverse, options, describe)
