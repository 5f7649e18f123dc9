"""Maps of where images are abnormal, in their own size: as files, and compared with masks of the defects."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from img2img.anomaly.detection import OVERALL, PCA, PIXELS, Quality, Table
from img2img.anomaly.pixel_histogram import PixelHistogram, auroc, gathered
from img2img.data.matching import listed, match_names, without_extension
from img2img.errors import UserError
from img2img.imaging.files import Image, find_images, from_float, read_image, to_channels, to_float, write_image
from img2img.imaging.folders import lies_in
from img2img.tasks.thresholds import Threshold

MASKS = "_masks"
"""Ending of the names of folders of masks, beside the folders of the images."""
RED, YELLOW = (215, 25, 20), (255, 230, 60)
YELLOW_FROM = 16.0  # times the threshold
ABOUT = """\
Each image has two pictures here, as large as the image.

NAME.map.png: 16-bit gray, the root of the model's map. For an autoencoder that is the root mean squared error about
each pixel, between the image and its reconstruction. The scale is the same in all files: 65535 is 1, the whole range of
pixel values. Errors are a small part of it, so a viewer shows most maps nearly black: let it stretch the contrast.

NAME.overlay.png: the image, red to yellow where the model's map stands out. There it exceeds
{rules}
Yellow is {yellow:.0f} times as much. Colour does not make an image abnormal, because normal images have some too; the
table of `img2img score` says which images are abnormal.
"""
ABSOLUTE = "- {limit.value:.3g}, which {limit.quantile:.0%} of the pixels of held-out normal images do not exceed"
RELATIVE = """\
- or {limit.value:.3g} times its mean over the same image, which {limit.quantile:.0%} of these pixels do not exceed:
  so a defect stands out of its own image, also where other images are reconstructed worse than this one"""


class MapFiles:
    """Writes the maps of images as files.

    Args:
        folder: The folder for the maps; it gets the tree of the images.
        root: Folder of the images.
        paths: The images.
        limits: `img2img.tasks.thresholds.Thresholds.pixels`. Without a `contrast`, which checkpoints of earlier
            versions lack, overlays show where the map exceeds its own threshold.

    Attributes:
        problems: A line for each map that this process could not write.
    """

    def __init__(self, folder: Path, root: Path, paths: Sequence[Path], limits: Mapping[str, Threshold]) -> None:
        self.folder, self.limit, self.contrast_limit = folder, limits["map"], limits.get("contrast")
        self.problems: list[str] = []
        names = {str(path): path.relative_to(root).as_posix() for path in paths}
        stems = {path: without_extension(name) for path, name in names.items()}
        often = Counter(stems.values())
        self.names = {path: stem if often[stem] == 1 else names[path] for path, stem in stems.items()}

    def write(self, path: str, values: NDArray[np.float32], contrast: NDArray[np.float32] | None = None) -> None:
        """Writes an image's map (`values`, H×W of any size) and overlay, in the image's own size.

        The overlay also shows a high `contrast`, H×W: the map relative to the level of the image.
        """
        try:
            pixels = read_image(Path(path)).pixels
            values = resize_map(values, pixels.shape)
            times = values / self.limit.value
            if contrast is not None and self.contrast_limit is not None:
                times = np.maximum(times, resize_map(contrast, pixels.shape) / self.contrast_limit.value)
            picture = from_float(np.sqrt(values)[..., None], np.uint16)
            write_image(self.folder / f"{self.names[path]}.map.png", Image(picture, None, {}))
            write_image(self.folder / f"{self.names[path]}.overlay.png", Image(draw_overlay(pixels, times), None, {}))
        except (OSError, ValueError) as error:
            self.problems.append(f"the map of {path} cannot be written: {error}")

    def explain(self) -> None:
        """Writes README.txt, which says what the files mean."""
        rules = [ABSOLUTE.format(limit=self.limit)]
        if self.contrast_limit is not None:
            rules.append(RELATIVE.format(limit=self.contrast_limit))
        self.folder.mkdir(parents=True, exist_ok=True)
        text = ABOUT.format(rules="\n".join(rules) + ".", yellow=YELLOW_FROM)
        (self.folder / "README.txt").write_text(text, encoding="utf-8")


def draw_overlay(pixels: NDArray[Any], times: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Returns an image, H×W×1 or H×W×3, with the pixels that exceed their threshold coloured, H×W×3.

    With `times`, the map in units of its threshold, H×W, pixels are red above 1, yellow from `YELLOW_FROM`.
    """
    plain = to_channels(from_float(to_float(pixels), np.uint8), 3).astype(np.float32)
    times = np.maximum(times, 1)[..., None]
    strength = np.minimum(np.log(times) / np.log(YELLOW_FROM), 1)
    colour = np.array(RED, np.float32) + strength * (np.array(YELLOW, np.float32) - np.array(RED, np.float32))
    opacity = np.where(times > 1, 0.4 + 0.4 * strength, 0)
    return np.asarray(np.rint(plain + opacity * (colour - plain)), np.uint8)


def resize_map(values: NDArray[np.float32], size: Sequence[int]) -> NDArray[np.float32]:
    """Returns a map at an image's height and width, with bilinear interpolation."""
    resized = cv2.resize(values, (int(size[1]), int(size[0])), interpolation=cv2.INTER_LINEAR)
    return np.asarray(resized, np.float32)


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


Counts = dict[tuple[str, str, bool], PixelHistogram]
"""Values of the pixels of maps, by label, prefix, and whether the pixels are inside of the masks."""


class MaskedPixels:
    """Counts the values of maps inside and outside of the masks, for an ROC curve over all pixels.

    Args:
        masks: Each image's mask, white where it is abnormal.
        normal: Labels whose images are normal everywhere; other images without a mask are left out.

    Attributes:
        problems: A line for each mask that this process could not use.
    """

    def __init__(self, masks: dict[str, Path], normal: Collection[str]) -> None:
        self.masks, self.normal = masks, set(normal)
        self.counts: Counts = {}
        self.problems: list[str] = []

    def add(self, path: str, label: str, shape: tuple[int, int], maps: Mapping[str, NDArray[np.float32]]) -> None:
        """Counts the pixels of an image's maps, by their prefix, each H×W of any size; `shape` is the image's."""
        if label in self.normal:
            abnormal = np.zeros(shape, bool)
        elif path in self.masks:
            try:
                mask = to_channels(read_image(self.masks[path]).pixels, 1)[..., 0]
            except ValueError as error:
                self.problems.append(str(error))
                return
            if mask.shape != shape:
                sizes = " instead of ".join(f"{width}×{height}" for height, width in (mask.shape, shape))
                self.problems.append(f"the mask {self.masks[path]} has another size than its image: {sizes}")
                return
            abnormal = to_float(mask) > 0.5
        else:
            return
        for prefix, values in maps.items():
            resized = resize_map(values, shape)
            for inside in (False, True):
                self.counts.setdefault((label, prefix, inside), PixelHistogram()).add(resized[abnormal == inside])

    def gathered_quality(self) -> Table:
        """Returns how well all processes' maps tell masked pixels from normal ones; every process must call it."""
        counts = gathered(self.counts)
        labels = sorted({label for label, _, _ in counts} - self.normal)
        groups = {label or ".": [label] for label in labels} | ({OVERALL: labels} if len(labels) > 1 else {})
        table: Table = {}
        for name, group in groups.items():
            for prefix in ("", PCA):
                inside = _sum(counts, group, prefix, True)
                outside = _sum(counts, [*group, *sorted(self.normal)], prefix, False)
                if inside.counts.any() and outside.counts.any():
                    table.setdefault(name, {})[prefix + PIXELS] = Quality(auroc(outside, inside), None)
        return table


def _sum(counts: Counts, labels: Sequence[str], prefix: str, inside: bool) -> PixelHistogram:
    found = (counts.get((label, prefix, inside), PixelHistogram()) for label in labels)
    return sum(found, PixelHistogram())
