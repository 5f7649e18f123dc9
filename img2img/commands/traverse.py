"""`img2img traverse`: what each latent of an image means."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

from img2img.errors import printable
from img2img.latents.traversal import traverse
from img2img.signature_parser import parser_of


def run(command: str, arguments: Sequence[str]) -> None:
    """Draws an image with one latent after the other changed."""
    description = (
        "Draw an image with each latent in turn at the values that it takes over the training images, those first that "
        "change the image most."
    )
    options = vars(parser_of(traverse, command, description).parse_args(arguments))
    sys.path.append(os.getcwd())  # networks of one's own
    found = traverse(**options)
    most = "; ".join(f"z{d} {found.changes[d]:.2g}" for d in found.latents[:3])
    shown, known = len(found.latents), len(found.changes)
    print(printable(f"{shown} of {known} latents, by mean squared change ({most}): {options['output']}"))
