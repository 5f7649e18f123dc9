"""`img2img edit`: an attribute put into images, such as a smile, by a direction between two folders' latents."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from img2img.commands.carry_out import carry_out
from img2img.latents.editing import EditResult, edit
from img2img.latents.runner import Devices
from img2img.signature_parser import parser_of


def run(command: str, arguments: Sequence[str]) -> None:
    """Edits a folder, and says how far the two others are apart."""
    parser = parser_of(edit, command, names={"start": "from", "end": "to"}, shared=[Devices])
    options = vars(parser.parse_args(arguments))

    def describe(result: EditResult) -> list[str]:
        ends = zip((options["start"], options["end"]), result.images, strict=True)
        before, after = (f"{Path(folder).name} ({count})" for folder, count in ends)
        apart = "too few images to say how far apart their latents are"
        if result.told_apart is not None:
            apart = f"a linear classifier tells {100 * result.told_apart:.1f} % of their latents apart, chance 50 %"
        return [f"{len(result.files)} image(s) edited: {options['output']}; {before} and {after}: {apart}"]

    carry_out(edit, options, describe)
