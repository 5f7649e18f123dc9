"""`img2img sample`: images that an autoencoder imagines."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

from img2img.errors import printable
from img2img.latents.sampling import sample
from img2img.signature_parser import parser_of


def run(command: str, arguments: Sequence[str]) -> None:
    """Draws images.

    Raises:
        SystemExit: With code 1 if some of a folder's images could not be written.
    """
    parser = parser_of(sample, command, "Draw images of random latents: a sheet of them, or a folder.")
    options = vars(parser.parse_args(arguments))
    sys.path.append(os.getcwd())  # networks of one's own
    result = sample(**options)
    for problem in result.problems:
        print(printable(f"skipped: {problem}"), file=sys.stderr)
    count = options["n"] - len(result.problems)
    print(printable(f"{count} image(s) drawn from {result.origin}: {options['output']}"))
    if result.problems:
        raise SystemExit(1)
