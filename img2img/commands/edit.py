"""`img2img edit`: an attribute put into images, such as a smile, by a direction between two folders' latents."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path

from img2img.errors import printable
from img2img.latents.editing import edit
from img2img.latents.runner import Devices, first_process
from img2img.signature_parser import parser_of


def run(command: str, arguments: Sequence[str]) -> None:
    """Edits a folder, and says how far the two others are apart.

    Raises:
        SystemExit: With code 1 if some file could not be read or edited.
    """
    parser = parser_of(
        edit,
        command,
        "Move images along the direction from one folder's images to another's.",
        hidden=["progress"],
        names={"start": "from", "end": "to"},
        shared=[Devices],
    )
    options = vars(parser.parse_args(arguments))
    sys.path.append(os.getcwd())  # networks of one's own
    result = edit(**options, progress=True)
    if not first_process():
        return
    for problem in result.problems:
        print(printable(f"skipped: {problem}"), file=sys.stderr)
    before, after = (
        f"{Path(options[end]).name} ({count})" for end, count in zip(("start", "end"), result.images, strict=True)
    )
    if result.told_apart is None:
        apart = "too few images to say how far apart their latents are"
    else:
        right = 100 * result.told_apart
        apart = f"a linear classifier tells {right:.1f} % of their latents apart, chance 50 %"
    print(printable(f"{len(result.files)} image(s) edited: {options['output']}; {before} and {after}: {apart}"))
    if result.problems:
        raise SystemExit(1)
