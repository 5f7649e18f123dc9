"""`img2img reconstruct`: a folder of images as an autoencoder draws them."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

from img2img.errors import printable
from img2img.latents.reconstruction import reconstruct
from img2img.latents.runner import Devices, first_process
from img2img.signature_parser import parser_of


def run(command: str, arguments: Sequence[str]) -> None:
    """Writes the reconstructions of a folder.

    Raises:
        SystemExit: With code 1 if some file could not be read or written.
    """
    description = "Write an autoencoder's reconstruction of each image; a denoising one removes the noise."
    parser = parser_of(reconstruct, command, description, hidden=["progress"], shared=[Devices])
    options = vars(parser.parse_args(arguments))
    sys.path.append(os.getcwd())  # networks of one's own
    result = reconstruct(**options, progress=True)
    if not first_process():
        return
    for problem in result.problems:
        print(printable(f"skipped: {problem}"), file=sys.stderr)
    print(printable(f"{len(result.files)} image(s) reconstructed: {options['output']}"))
    if result.problems:
        raise SystemExit(1)
