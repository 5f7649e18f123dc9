"""Where restored images go and how they are made, as the command line and the configs say it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from img2img.errors import UserError
from img2img.imaging.folders import lies_in

_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*(k|m|g|t)?(i?b)?", re.IGNORECASE)


@dataclass
class Output:
    """Where restored images go, and how they are made.

    Args:
        folder: Folder, which gets the inputs' tree and names.
        format: keep, png, jpeg, webp, tiff or avif.
        quality: 1 to 100, of JPEG, WebP and AVIF.
        overwrite: Replace outputs that are there, whoever made them.
        skip_existing: Leave outputs that are there, whoever made them. What an earlier run of the same model and
            options has made is always left, unless `overwrite` and that run had come to its end.
        html: Write a page to compare before and after as well, restore_report.html.
        reference: Folder of what the outputs should be, matched by relative path: PSNR and SSIM are reported.
        self_ensemble: Average over the eight turned and mirrored versions of the image: better, and eight times slower.
        memory: What the program may take, such as 2GB; None for half of what is free, at most 2 GB.
        tile: Side of the tiles in pixels; None to choose by memory.
        uncertainty: Folder that gets a map for each output, of models that say how sure they are
            (`UncertainRestoration`): gray, 16 bits, σ · 65535, σ being in units of the pixel range and the mean over
            channels; the outputs' tree, names and sizes, as PNG, as TIFF where there are several pages.
    """

    folder: str = "restored"
    format: str = "keep"
    quality: int = 95
    overwrite: bool = False
    skip_existing: bool = False
    html: bool = False
    reference: str | None = None
    self_ensemble: bool = False
    memory: str | None = None
    tile: int | None = None
    uncertainty: str | None = None

    def check(self) -> None:
        """Refuses what cannot be meant.

        Raises:
            UserError: If so.
        """
        if not 1 <= self.quality <= 100:
            raise UserError(f"--quality {self.quality} must be 1 to 100")
        if self.overwrite and self.skip_existing:
            raise UserError("--overwrite and --skip-existing contradict each other; give one of them")
        if self.reference is not None and not Path(self.reference).is_dir():
            raise UserError(f"--reference {self.reference} is no folder")
        for made in (self.folder, self.uncertainty):
            if None not in (self.reference, made) and lies_in(Path(str(made)), Path(str(self.reference))):
                raise UserError(f"the output {made} lies in --reference {self.reference}; choose another output")
        parse_size(self.memory)


def parse_size(text: str | None) -> int | None:
    """Returns the bytes of a size such as 2GB, 1.5G or 500 MiB; None for None.

    Raises:
        UserError: If it is none, or less than a megabyte.
    """
    if text is None:
        return None
    match = _SIZE.fullmatch(text.strip())
    if match is None:
        raise UserError(f"--memory {text} is no size; give one such as 2GB or 500MB")
    base = 1024 if (match[3] or "").lower().startswith("i") else 1000
    size = int(float(match[1]) * base ** " kmgt".index((match[2] or " ").lower()))
    if size < 1_000_000:
        raise UserError(f"--memory {text} is less than a megabyte; give a size such as 2GB")
    return size
