"""Masks of defects, which lie beside the images: which mask belongs to which image."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from img2img.data.matching import listed, match_names
from img2img.errors import UserError
from img2img.imaging.folders import find_images, lies_in

MASKS = "_masks"
"""Ending of the names of folders of masks, beside the folders of the images."""


def find_masks(root: Path, paths: Sequence[Path], masks: str | None) -> tuple[list[Path], dict[str, Path]]:
    """Returns the images without the masks among them, and the mask of each image that has one.

    Args:
        root: Folder of the images.
        paths: The image files in it.
        masks: A folder with the images' relative paths, or the ending of the names of folders of masks beside the
            images' (`blowhole/a.jpg`, `blowhole_masks/a.png`); None for `_masks`, if there are such folders.

    Raises:
        UserError: If masks were named and there are none, or an image has several.
    """
    ending = MASKS if masks is None else masks
    if masks is not None and Path(masks).is_dir():
        folder = Path(masks)
        images = [path for path in paths if not lies_in(path, folder)]
        named = {path.relative_to(folder).as_posix(): path for path in find_images(folder)}
    else:
        relative = {path: path.relative_to(root) for path in paths}
        labels = {name.parent for name in relative.values()}
        beside = {label for label in labels if _without(label, ending) in labels - {label}}
        images = [path for path, name in relative.items() if name.parent not in beside]
        masking = {path: name for path, name in relative.items() if name.parent in beside}
        named = {(_without(name.parent, ending) / name.name).as_posix(): path for path, name in masking.items()}
    matches = match_names((path.relative_to(root).as_posix() for path in images), named)
    if matches.ambiguous:
        ours, theirs = matches.ambiguous[0]
        raise UserError(f"it is not clear which mask belongs to {listed(ours)}: there are {listed(theirs)}")
    if masks is not None and not matches.pairs:
        raise UserError(
            f"--masks {masks}: no image under {root} has a mask there; give a folder with the images' relative paths, "
            f"or an ending such as {MASKS} for folders beside theirs"
        )
    return images, {str(root / name): named[mask] for name, mask in matches.pairs.items()}


def _without(label: Path, ending: str) -> Path:
    """Maps `x_masks/` to `x/`; other folders to themselves."""
    return Path(*(part.removesuffix(ending) or part for part in label.parts))
