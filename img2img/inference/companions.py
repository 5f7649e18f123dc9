"""Files that belong to the images, such as masks: found by relative path, whatever the extension."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TypeAlias

from img2img.data.matching import Matches, match_names
from img2img.errors import UserError
from img2img.imaging.folders import find_images
from img2img.imaging.formats import Header
from img2img.imaging.reading import RowReader, open_rows
from img2img.inference.jobs import named_images

FileFinder: TypeAlias = Callable[[Path], Path]
"""Returns the file that belongs to an image; raises ValueError, with a line that names the image, if there is none."""


def find_files(given: str, sources: Sequence[Path], what: str, else_: str = "") -> FileFinder:
    """Returns what finds the files that belong to the images; reads none yet.

    Args:
        given: A folder of them, with the images' relative paths; or one file, if there is one image.
        sources: Folders of images, and images.
        what: What the files are, in messages, such as `mask`.
        else_: What else could have been given, in messages.

    Raises:
        UserError: If there is no such file or folder, it is among the images, or it is one file for several images; or
            as in `named_images`.
    """
    path = Path(given).expanduser()
    if path.is_dir():
        for source in sources:
            if source.is_dir() and path.resolve().is_relative_to(source.resolve()):
                raise UserError(
                    f"the {what}s {given} are in the folder of images {source} and would be restored too; move them out"
                )
        return Companions(path, dict(named_images(sources, may_be_none=True)), what)
    if path.is_file():
        if len(sources) > 1 or sources[0].is_dir():
            raise UserError(
                f"the {what} {given} is one file for a folder of images or several; give a folder of {what}s"
            )
        return lambda image: path
    raise UserError(f"the {what} {given} does not exist; give a folder of {what}s{else_}")


@dataclass
class Companions:
    """Files of a separate folder, which have the relative paths (`names`) of their images; `what` they are."""

    folder: Path
    names: Mapping[Path, str]
    what: str

    def __call__(self, path: Path) -> Path:
        """Returns the image's file."""
        name = self.names[path]
        for ours, theirs in self._matches.ambiguous:
            if name in ours:
                raise ValueError(
                    f"{path}: its {self.what} is ambiguous: {', '.join(theirs)} in {self.folder} could belong to "
                    f"{', '.join(ours)}; give them the same extension"
                )
        if name not in self._matches.pairs:
            raise ValueError(f"{path}: there is no {self.what} of this name in {self.folder}")
        return self.folder / self._matches.pairs[name]

    @cached_property
    def _matches(self) -> Matches:
        files = [file.relative_to(self.folder).as_posix() for file in find_images(self.folder)]
        return match_names(list(self.names.values()), files)


def open_beside(file: Path, path: Path, header: Header, what: str) -> RowReader:
    """Opens the file that belongs to an image, of several pages the first, to be read along with it.

    Raises:
        ValueError: If it cannot be read, or has another size.
    """
    reader = open_rows(file, first_page=True)
    sizes = [(each.width, each.height) for each in (reader.header, header)]
    if sizes[0] != sizes[1]:
        reader.close()
        named = [f"{width}×{height}" for width, height in sizes]
        raise ValueError(f"{path}: its {what} {file} is {named[0]}, the image {named[1]}")
    return reader
