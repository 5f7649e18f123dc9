"""`img2img export`: writes a model as a file for other runtimes, with a contract that says how to use it."""

from __future__ import annotations

from collections.abc import Sequence

from img2img.commands.carry_out import carry_out
from img2img.exporting.export import Exported, export
from img2img.signature_parser import parser_of


def run(command: str, arguments: Sequence[str]) -> None:
    """Exports a model, and prints how far the file is from torch."""
    options = vars(parser_of(export, command, positional=["model", "output"]).parse_args(arguments))
    carry_out(export, options, describe)


def describe(done: Exported) -> list[str]:
    """Returns what was written, how far it is from torch, and how it is to be used."""
    contract, parity = done.contract, done.parity
    tiled = "" if parity.tiled is None else f", {parity.tiled:.1e} in tiles"
    lines = [
        f"{done.path}: {done.size / 1e6:.1f} MB in {contract.precision}; largest difference to torch "
        f"{parity.whole:.1e}{tiled} ({parity.images} images; at most {done.tolerance:.0e} is allowed)"
    ]
    if contract.size is not None:
        lines.append(f"Images have {contract.size[1]}×{contract.size[0]} pixels.")
    elif contract.halo is None:
        lines.append("Tiling cannot be exact: every pixel may depend on all others.")
    else:
        lines.append(f"Tiles start at multiples of {contract.stride} and have a halo of {contract.halo} pixels.")
    return lines
