"""The list of images to restore and where their outputs go, decided before any image is decoded."""

from __future__ import annotations

import os
import unicodedata
import uuid
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

from img2img.errors import UserError
from img2img.imaging.folders import find_images, lies_in
from img2img.imaging.formats import FORMATS, OFFERED, READABLE_NAMES, WRITABLE, Header, format_of
from img2img.imaging.reading import read_header
from img2img.imaging.truncation import is_truncated


@dataclass(frozen=True)
class Job:
    """One file to restore.

    Attributes:
        source: The image.
        destination: Where its restored version goes.
        name: The destination's path relative to the output folder, with forward slashes.
        header: The image's header; None if it cannot be read.
        problem: Why it will not be restored; empty if there is no reason.
        map: Where its uncertainty map goes; None if no map is wanted.
        known: Sizes and times that its outputs had when the run was planned: nothing else is replaced. None to replace
            whatever is there.
    """

    source: Path
    destination: Path
    name: str
    header: Header | None = None
    problem: str = ""
    map: Path | None = None
    known: Mapping[Path, tuple[int, int]] | None = None

    @property
    def pixels(self) -> int:
        """Number of pixels on all pages."""
        return 0 if self.header is None else self.header.width * self.header.height * self.header.pages


def list_jobs(
    sources: Sequence[Path],
    destination: Path,
    format: str = "keep",
    others: Counter[str] | None = None,
    only: Collection[Path] | None = None,
) -> list[Job]:
    """Finds the images and names their outputs; reads only headers, and whether files are truncated.

    Args:
        sources: Folders, searched recursively, and images.
        destination: Folder, which gets the same tree; or a file, if there is one source and it is an image.
        format: `keep`, or one of `OFFERED`.
        others: Counter that gets the number of files in other formats, by suffix.
        only: The images to restore; None for all that there are. Their names then do not depend on which others there
            are, which may change: an output with another suffix than its input's keeps that before its own.

    Returns:
        The jobs, ordered by name; a file that cannot be read, or would overwrite an input, has a `problem`.

    Raises:
        UserError: If there is no image, two would get one output, or the format is neither `keep` nor in `OFFERED`.
    """
    if format != "keep" and format not in OFFERED:
        meant = next((kind.name for kind in FORMATS if kind.offered and f".{format.lower()}" in kind.suffixes), None)
        right = f"did you mean {meant}?" if meant else f"give one of keep, {', '.join(OFFERED)}"
        raise UserError(f"--format {format} does not exist; {right}")
    named = named_images(sources, others, may_be_none=only is not None)
    if is_one_file(sources, destination):
        folder, names = destination.parent, [destination.name]
    else:
        folder, inputs = destination, [name for _, name in named]
        names = name_outputs(inputs, format, _folds_case(destination)) if only is None else _lasting(inputs, format)
    pairs = zip((path for path, _ in named), names, strict=True)
    jobs = [Job(path, folder / name, name) for path, name in pairs if only is None or path in only]
    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:  # most of the time on network drives is waiting
        jobs = list(pool.map(_with_header, jobs))
    return _spare_inputs(jobs, sources, [path for path, _ in named])


def is_one_file(sources: Sequence[Path], destination: Path) -> bool:
    """Returns whether the destination is the name of the one output, not a folder."""
    one = len(sources) == 1 and sources[0].is_file()
    return one and destination.suffix.lower() in WRITABLE and not destination.is_dir()


def named_images(
    sources: Sequence[Path], others: Counter[str] | None = None, may_be_none: bool = False
) -> list[tuple[Path, str]]:
    """Returns the images of all sources, ordered by the names that they get in the output folder.

    A name is the path relative to the source; of several sources, folders keep their own name before it, like `cp -r`.

    Raises:
        UserError: If a source holds no image and that is not allowed, or two images would get the same name.
    """
    named: dict[str, Path] = {}
    for source in sources:
        paths = [source] if source.is_file() else find_images(source, every=True, others=others)
        if not paths and not may_be_none:
            raise UserError(f"no images ({READABLE_NAMES}) under {source}")
        root = source.parent if source.is_file() else source
        folder = os.path.basename(os.path.abspath(source)) if len(sources) > 1 and source.is_dir() else ""
        for path in paths:
            name = Path(folder, path.relative_to(root)).as_posix()
            if name in named:
                raise UserError(
                    f"{named[name]} and {path} would both be named {name} in the output; restore them into two folders"
                )
            named[name] = path
    return [(named[name], name) for name in sorted(named)]


def name_outputs(names: Sequence[str], format: str, folds_case: bool = False) -> list[str]:
    """Returns the outputs' names: the inputs' relative paths, with the suffix of the format.

    If two outputs would get the same name (`a.jpg` and `a.png` in `png`), or one the name of a folder, those whose
    suffix changes keep the old suffix before the new one: `a.jpg.png`. `A.png` and `a.png` are the same name if the
    disk folds case, and two Unicode spellings of a name (NFC, NFD) are one name, as they are on Macs.
    A name depends on which other files there are, but not on their order.
    """

    def key(name: str) -> str:
        return unicodedata.normalize("NFC", name.casefold() if folds_case else name)

    wanted = [_renamed(name, format) for name in names]
    folders = {key(parent.as_posix()) for name in names for parent in PurePosixPath(name).parents}
    for _ in range(2):
        taken = Counter([*folders, *(key(name) for name in wanted)])
        wanted = [
            _lengthened(name, format) if taken[key(new)] > 1 and new != name else new
            for name, new in zip(names, wanted, strict=True)
        ]
    others = set(folders)
    for number, new in enumerate(wanted):  # the remaining ones differ only in case, or have contrived names
        stem, suffix = os.path.splitext(new)
        count = 2
        while key(wanted[number]) in others:
            wanted[number] = f"{stem} ({count}){suffix}"
            count += 1
        others.add(key(wanted[number]))
    return wanted


def _lasting(names: Iterable[str], format: str) -> list[str]:
    """Returns names that each depend on one input's alone; see `name_outputs`.

    Raises:
        UserError: If two are the same.
    """
    found = [name if _renamed(name, format) == name else _lengthened(name, format) for name in names]
    if twice := [name for name, count in Counter(found).items() if count > 1]:
        raise UserError(f"two images would both be named {twice[0]} in the output; rename one of them")
    return found


def _renamed(name: str, format: str) -> str:
    stem, suffix = os.path.splitext(name)
    if format == "keep":
        return name if suffix.lower() in WRITABLE else stem + OFFERED["avif"]  # HEIC is only read; AVIF is closest
    same = suffix.lower() in WRITABLE and format_of(suffix).name == format
    return name if same else stem + OFFERED[format]


def _lengthened(name: str, format: str) -> str:
    return name + OFFERED["avif" if format == "keep" else format]


def _folds_case(folder: Path) -> bool:
    """Returns whether the disk of a folder ignores case; the folder need not exist."""
    existing = next(parent for parent in (folder.absolute(), *folder.absolute().parents) if parent.is_dir())
    probe = existing / f".{uuid.uuid4().hex}.part"
    try:
        probe.touch()
    except OSError:
        return False  # a later check reports that the folder cannot be written to
    try:
        return probe.with_name(probe.name.upper()).exists()
    finally:
        probe.unlink()


def _with_header(job: Job) -> Job:
    if os.path.isdir(job.source):
        return replace(job, problem=f"cannot read {job.source}: the folder may not be listed")
    try:
        header = read_header(job.source)
        if is_truncated(job.source, header.format):
            return replace(job, problem=f"cannot read {job.source}: the file is truncated")
        # Without EXIF and profiles, which would fill the memory for thousands of files; the reader has them.
        return replace(job, header=replace(header, metadata={}))
    except Exception as error:  # whatever is wrong with one file, the others go on
        return replace(job, problem=reason_of(error, job.source))


def reason_of(error: Exception, source: Path) -> str:
    """Returns a line that names a file and says why it was not restored."""
    reason = str(error) or type(error).__name__
    return reason if str(source) in reason else f"{source}: {reason}"


def _spare_inputs(jobs: Sequence[Job], sources: Sequence[Path], images: Iterable[Path]) -> list[Job]:
    """Marks the jobs that would overwrite an image, even through a link, a hard link or another spelling."""
    inputs = {identity for path in images if (identity := _identity(path))}
    among = _among(sources, {job.destination.parent for job in jobs})
    spared = []
    for job in jobs:
        if _identity(job.destination) in inputs:
            same = _identity(job.source) == _identity(job.destination)
            reason = f"would overwrite {'the source' if same else 'another source'}"
        elif job.destination.parent in among:
            reason = "would be written among the sources"
        else:
            reason = ""
        problem = f"{job.source}: not restored, because {job.destination} {reason}; choose another output folder"
        spared.append(replace(job, problem=problem, header=None) if reason else job)
    return spared


def with_maps(jobs: Sequence[Job], folder: Path, sources: Sequence[Path], *, lasting: bool = False) -> list[Job]:
    """Returns the jobs with paths for their uncertainty maps.

    Maps have the outputs' tree and names in their own folder: PNG files, or TIFF for images with several pages. Names
    that are to be `lasting` do not depend on which other jobs there are.

    Raises:
        UserError: If a map would overwrite an input, or be written among the inputs.
    """
    inputs = {identity for job in jobs if (identity := _identity(job.source))}
    places: dict[str, Path] = {}
    for format, several in (("png", False), ("tiff", True)):  # only TIFF holds more than one page
        names = [job.name for job in jobs if (job.header is not None and job.header.pages > 1) == several]
        new = _lasting(names, format) if lasting else name_outputs(names, format, _folds_case(folder))
        places |= {name: folder / place for name, place in zip(names, new, strict=True)}
    wrong = [place for place in places.values() if _identity(place) in inputs]
    wrong += sorted(_among(sources, {place.parent for place in places.values()}))
    if wrong:
        raise UserError(f"--uncertainty {folder}: {wrong[0]} belongs to the input; choose another folder")
    return [replace(job, map=places[job.name]) for job in jobs]


def _among(sources: Sequence[Path], folders: Iterable[Path]) -> set[Path]:
    """Returns the folders that are inside one of the sources."""
    trees = [source for source in sources if source.is_dir()]
    return {folder for folder in folders if any(lies_in(folder, tree) for tree in trees)}


def _identity(path: Path) -> tuple[int, int] | None:
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_dev, status.st_ino
