"""`-` as an input or output of `restore`: one image comes from stdin, or goes to stdout, by way of a private file."""

from __future__ import annotations

import shutil
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from pathlib import Path

from img2img.errors import UserError
from img2img.imaging.formats import sniff
from img2img.inference.jobs import name_outputs

PIPE = "-"


@contextmanager
def as_files(inputs: Sequence[str], output: str, format: str = "keep") -> Iterator[tuple[Path, Path]]:
    """Yields a file to read and a place to write in place of `-`, and sends what was written there at the end.

    Nothing else reaches stdout: what is printed meanwhile goes to stderr. If the block raises, nothing is sent.

    Args:
        inputs: One image or `-`.
        output: An image, a folder or `-`.
        format: The format of what is sent: `keep` for the input's, or one of `OFFERED`.

    Raises:
        UserError: If there are several inputs or a folder, stdin is a terminal or holds no image, stdout is a terminal,
            or whoever reads stdout has gone.
    """
    if len(inputs) != 1 or Path(inputs[0]).is_dir():
        raise UserError("- stands for one image: give one input, an image or -")
    if output == PIPE and sys.stdout.isatty():
        raise UserError("stdout is a terminal: redirect it into a file or another program, such as > restored.png")
    with tempfile.TemporaryDirectory(prefix="img2img-") as place:
        source = _received(Path(place)) if inputs[0] == PIPE else Path(inputs[0])
        made = Path(place, "restored", name_outputs([source.name], format)[0])
        with redirect_stdout(sys.stderr):
            yield source, made if output == PIPE else Path(output)
        if output == PIPE:
            _send(made)


def _received(folder: Path) -> Path:
    """Writes what stdin holds into a file, named by its format."""
    if sys.stdin.isatty():
        raise UserError("stdin is a terminal: let an image come in, such as < photo.png")
    received = folder / "stdin"
    with open(received, "wb") as file:
        shutil.copyfileobj(sys.stdin.buffer, file)
    with open(received, "rb") as file:
        try:
            kind = sniff(file.read(32))
        except ValueError as error:
            raise UserError(f"stdin cannot be read: {error}") from error
    return received.rename(received.with_suffix(kind.suffixes[0]))


def _send(file: Path) -> None:
    try:
        with open(file, "rb") as made:
            shutil.copyfileobj(made, sys.stdout.buffer)
        sys.stdout.buffer.flush()
    except BrokenPipeError as error:
        raise UserError("stdout was closed before the image was through") from error
