"""`img2img encode`: every image of a folder as the few numbers that an autoencoder makes of it."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

from img2img.errors import printable
from img2img.latents.encoding import encode
from img2img.latents.runner import Devices, first_process
from img2img.signature_parser import parser_of


def run(command: str, arguments: Sequence[str]) -> None:
    """Writes the table of a folder, and says how well the model reconstructs its images.

    Raises:
        SystemExit: With code 1 if some file could not be read.
    """
    description = "Write what an autoencoder makes of each image of a folder: a few numbers."
    options = vars(parser_of(encode, command, description, hidden=["progress"], shared=[Devices]).parse_args(arguments))
    sys.path.append(os.getcwd())  # networks of one's own
    table = encode(**options, progress=True)
    if not first_process():
        return
    for problem in table.problems:
        print(printable(f"skipped: {problem}"), file=sys.stderr)
    linear = "" if table.pca_error is None else f", PCA {table.pca_error.mean():.5f}"
    images, labels = len(table), len(set(table.label))
    print(f"{images} image(s) of {labels} label(s): {options['output']}; error {table.error.mean():.5f}{linear}")
    if options["projector"] is not None:
        print(f"Projector: img2img watch {options['projector']}")
    if table.problems:
        raise SystemExit(1)
