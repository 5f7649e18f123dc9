"""`img2img pack`: packs a checkpoint into one small file that holds the whole model, with a card to fill in."""

from __future__ import annotations

from collections.abc import Sequence

from img2img.signature_parser import parser_of
from img2img.training.packing import pack


def run(command: str, arguments: Sequence[str]) -> None:
    """Packs a checkpoint and prints what was written."""
    done = pack(**vars(parser_of(pack, command, positional=["model", "output"]).parse_args(arguments)))
    print(f"{done.model}: {done.size / 1e6:.1f} MB; fill in its card {done.card}, and use it with --model {done.model}")
