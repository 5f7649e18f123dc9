"""The options of `restore`, checked."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from img2img.errors import UserError
from img2img.imaging.folders import lies_in

WHITE_SIGMA = 0.25
"""The σ that is white in uncertainty maps, for pixels in [0, 1]; at σ = 1 for white, maps would be nearly black."""
STRONGEST = 1.5
"""Largest strength: beyond it, the errors of a network stand out more than what it does well."""
_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*(k|m|g|t)?(i?b)?", re.IGNORECASE)


@dataclass(frozen=True)
class Options:
    """How to restore images, and what to do with existing outputs; see `img2img.restore` for each option.

    Raises:
        UserError: If the quality, the memory or the strength is out of range, the reference is not a folder, or
            `overwrite` and `skip_existing` are both given.
    """

    format: str = "keep"
    quality: int = 95
    overwrite: bool = False
    skip_existing: bool = False
    html: bool = False
    reference: str | Path | None = None
    self_ensemble: bool = False
    memory: str | None = None
    tile: int | None = None
    uncertainty: str | Path | None = None
    strength: float = 1.0
    strength_map: str | Path | None = None

    def __post_init__(self) -> None:
        if not 1 <= self.quality <= 100:
            raise UserError(f"--quality {self.quality} must be 1 to 100")
        if self.overwrite and self.skip_existing:
            raise UserError("--overwrite and --skip_existing contradict each other; give one of them")
        if self.reference is not None and not Path(self.reference).is_dir():
            raise UserError(f"--reference {self.reference} is not a folder")
        parse_size(self.memory)
        if not 0 <= self.strength <= STRONGEST:  # nor is NaN
            raise UserError(f"--strength {self.strength:g} must be 0 to {STRONGEST}: 0 is the input, 1 all of it")

    def check_output(self, output: Path) -> None:
        """Checks that nothing is written among the references, nor among the maps of the strength.

        Raises:
            UserError: If the output or the folder of maps is inside one of these folders.
        """
        for name in ("reference", "strength_map"):
            read = getattr(self, name)
            for made in (output, self.uncertainty):
                if read is not None and made is not None and lies_in(Path(made), Path(read).expanduser()):
                    raise UserError(f"the output {made} is inside --{name} {read}; choose another output")


def parse_size(text: str | None) -> int | None:
    """Returns the bytes of a size such as 2GB, 1.5G or 500 MiB; None for None.

    Raises:
        UserError: If the text is not a size, or is less than a megabyte.
    """
    if text is None:
        return None
    match = _SIZE.fullmatch(text.strip())
    if match is None:
        raise UserError(f"--memory {text} is not a size; give one such as 2GB or 500MB")
    base = 1024 if (match[3] or "").lower().startswith("i") else 1000
    size = int(float(match[1]) * base ** " kmgt".index((match[2] or " ").lower()))
    if size < 1_000_000:
        raise UserError(f"--memory {text} is less than a megabyte; give a size such as 2GB")
    return size
