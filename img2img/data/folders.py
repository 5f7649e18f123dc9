"""Which images are trained on, validated with and tested on."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from img2img.imaging.files import find_images
from img2img.shipped import shipped_folder

Split = Literal["train", "val", "test"]
SPLITS: tuple[Split, ...] = ("train", "val", "test")
MIN_IMAGES_TO_SPLIT = 3


@dataclass(frozen=True)
class Source:
    """A folder and those of its images that belong to one split.

    Attributes:
        root: The folder that names are relative to.
        paths: The images, sorted by their path relative to the root.
    """

    root: Path
    paths: tuple[Path, ...]

    def name(self, path: Path) -> str:
        """The image's path relative to the root, with forward slashes: the same on every machine."""
        return path.relative_to(self.root).as_posix()


def resolve_root(root: str, option: str = "--data.root") -> Path:
    """Returns the folder that `root` means: a folder of the user's, or the shipped set of that name.

    Args:
        root: A path, or `starter` or `starter_jpeg`.
        option: Where it was given, for the message.

    Raises:
        FileNotFoundError: If there is neither.
    """
    folder = Path(root).expanduser()
    if folder.is_dir():
        return folder
    shipped = shipped_folder(root) if root.startswith("starter") else None
    if shipped is not None and shipped.is_dir():
        return shipped
    raise FileNotFoundError(f"the image folder {root} does not exist; give {option} a folder of photographs")


def find_split(root: Path, split: Split, seed: int, share: float, advice: str = "") -> Source:
    """Finds the images of one split.

    A root with a `train` folder is taken as it is divided (`test` falls back to `val`); any other root is divided
    by image, where `share` of the images go to val and as many to test. An image's place depends on the seed and its
    own relative path, so that adding photographs moves few of the others.

    Args:
        root: The folder.
        split: Which part of it.
        seed: Seed of the division.
        share: Share of the images for val, and for test; at least one image each.
        advice: What else could be done where images lack, for the messages.

    Returns:
        The images of the split, never empty.

    Raises:
        FileNotFoundError: If there are no images, or too few to divide.
    """
    if (root / "train").is_dir():
        folder = root / split
        if split == "test" and not folder.is_dir():
            folder = root / "val"
        if not folder.is_dir():
            raise FileNotFoundError(f"{root} has a folder train/ but no {folder.name}/; add one{advice}")
        return whole_folder(folder)
    everything = whole_folder(root)
    if len(everything.paths) < MIN_IMAGES_TO_SPLIT:
        raise FileNotFoundError(
            f"{root} holds {len(everything.paths)} image(s): too few to divide into train, val and test; "
            f"give at least {MIN_IMAGES_TO_SPLIT}{advice}"
        )
    held_out = max(1, round(share * len(everything.paths)))

    def place(path: Path) -> bytes:
        return hashlib.blake2b(f"{seed}:{everything.name(path)}".encode()).digest()

    order = sorted(everything.paths, key=place)
    parts = {"val": order[:held_out], "test": order[held_out : 2 * held_out], "train": order[2 * held_out :]}
    return Source(root, tuple(sorted(parts[split], key=everything.name)))


def whole_folder(folder: Path) -> Source:
    """Takes all the images under a folder.

    Raises:
        FileNotFoundError: If there are none.
    """
    paths = tuple(find_images(folder))
    if not paths:
        raise FileNotFoundError(f"no images (JPEG, PNG, WebP, TIFF, AVIF, HEIC, BMP, PPM) under {folder}")
    return Source(folder, paths)
