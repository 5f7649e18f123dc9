"""Download, check, unpack and lay out data sets, for the `prepare.py` scripts; standard library only."""

import hashlib
import shutil
import struct
import sys
import tarfile
import tempfile
import urllib.error
import urllib.request
import zipfile
from collections.abc import Callable, Iterable
from pathlib import Path


class PrepareError(Exception):
    """An error that the user can act on; `run` prints it as one line and exits with status 1."""


def run(main: Callable[[], None]) -> None:
    """Call `main`; turn an expected failure into one line on stderr and exit status 1."""
    try:
        main()
    except (PrepareError, OSError, tarfile.TarError, zipfile.BadZipFile) as error:
        sys.exit(f"error: {' '.join(str(error).split())}")


def download(url: str, target: Path) -> Path:
    """Download `url` to `target`; the file gets its name only when it is complete.

    Args:
        url: Any address urllib opens: https://, http:// or file://.
        target: File to write.

    Returns:
        `target`.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_name(target.name + ".part")
    try:
        with urllib.request.urlopen(url) as response, part.open("wb") as file:
            total, done = int(response.headers.get("Content-Length") or 0), 0
            while block := response.read(1 << 20):
                file.write(block)
                done += len(block)
                if sys.stderr.isatty():
                    share = f" of {total / 1e6:.0f}" if total else ""
                    print(f"\r{target.name}: {done / 1e6:.0f}{share} MB", end="", file=sys.stderr)
        if sys.stderr.isatty():
            print(file=sys.stderr)
        if total and done != total:
            raise PrepareError(f"{url}: got {done} of {total} bytes; please try again")
        part.replace(target)
    except (urllib.error.URLError, ValueError) as error:
        raise PrepareError(f"cannot download {url}: {error}") from error
    finally:
        part.unlink(missing_ok=True)
    return target


def check_sha256(path: Path, expected: str | None) -> None:
    """Compare a file with its checksum, or print the checksum where none is known.

    Args:
        path: File to check.
        expected: SHA-256 in hexadecimal, or None if it is not known.
    """
    with path.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if expected is None:
        print(f"{path.name}: sha256 {found} (unverified)")
    elif found != expected.lower():
        raise PrepareError(f"{path.name}: sha256 is {found}, expected {expected}; nothing was prepared")


def unpack(archive: Path, folder: Path) -> None:
    """Unpack a .tar.* or .zip archive into `folder`; refuse members that would land outside it.

    Args:
        archive: File to unpack.
        folder: Where to; made if missing.
    """
    if zipfile.is_zipfile(archive):
        with zipfile.ZipFile(archive) as file:
            for name in file.namelist():
                if not (folder / name).resolve().is_relative_to(folder.resolve()):
                    raise PrepareError(f"{archive.name}: {name} would be written outside the folder")
            file.extractall(folder)
    elif tarfile.is_tarfile(archive):
        with tarfile.open(archive) as file:
            try:
                file.extractall(folder, filter="data")
            except tarfile.FilterError as error:
                raise PrepareError(f"{archive.name}: {error}") from error
    else:
        raise PrepareError(f"{archive.name} is neither a tar nor a zip archive")


def open_source(archive: Path | None, url: str, sha256: str | None, work: Path) -> Path:
    """Get a data set from disk or from its address, check it and unpack it.

    Args:
        archive: Archive or folder on disk; None downloads `url`.
        url: Address of the archive.
        sha256: Expected checksum of the archive, or None.
        work: Scratch folder.

    Returns:
        The folder with the data set, inside `work` unless `archive` is a folder itself.
    """
    if archive is not None and archive.is_dir():
        print(f"{archive}: a folder, taken as it is (unverified)")
        return archive
    if archive is not None and not archive.is_file():
        raise PrepareError(f"there is no archive or folder {archive}")
    name = url.rsplit("/", 1)[-1]
    file = archive or download(url, work / name)
    check_sha256(file, sha256)
    folder = work / f"{name}.unpacked"
    unpack(file, folder)
    return folder


def image_size(path: Path) -> tuple[int, int]:
    """Read (width, height) from the header of a PNG or JPEG file."""
    with path.open("rb") as file:
        data = file.read(1 << 16)
    if data[:8] == b"\x89PNG\r\n\x1a\n" and len(data) >= 24:
        return struct.unpack(">II", data[16:24])
    at = 2
    while data[:2] == b"\xff\xd8" and at + 9 <= len(data) and data[at] == 0xFF:
        marker, length = data[at + 1], int.from_bytes(data[at + 2 : at + 4], "big")
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):  # a frame header
            height, width = struct.unpack(">HH", data[at + 5 : at + 9])
            return width, height
        at += 2 + length
    raise PrepareError(f"{path.name} is not a readable PNG or JPEG file")


def find_images(folder: Path, suffix: str, count: int, what: str) -> list[Path]:
    """List the images of a folder and insist on their number.

    Args:
        folder: Where to look; subfolders are not searched.
        suffix: File name ending, such as ".jpg".
        count: How many there must be.
        what: Name for the error message.

    Returns:
        The files, sorted by name.
    """
    found = sorted(p for p in folder.glob(f"*{suffix}") if not p.name.startswith("."))
    if len(found) != count:
        raise PrepareError(f"{what}: expected {count} images (*{suffix}), found {len(found)}")
    return found


def require_new(out: Path) -> None:
    """Refuse to write into a folder that is not empty."""
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise PrepareError(f"{out} exists and is not empty; please give a new folder")


def write_layout(out: Path, splits: dict[str, Iterable[Path]]) -> None:
    """Copy images to train/, val/, test/ in a folder that appears only when all of it is there.

    Args:
        out: The new folder.
        splits: Images of each split, by its name.
    """
    out = out.resolve()
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out.parent) as scratch:
        part = Path(scratch) / out.name
        for split, images in splits.items():
            (part / split).mkdir(parents=True)
            for image in images:
                shutil.copyfile(image, part / split / image.name)
            print(f"{out / split}: {len(list((part / split).iterdir()))} images")
        if out.exists():
            out.rmdir()
        part.replace(out)
