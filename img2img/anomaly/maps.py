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
from img2img.anomaly.pixel_histogram import PixelHistogram, auroc
from img2img.data.matching import listed, match_names, without_extension
from img2img.errors import UserError
from img2img.imaging.files import Image, find_images, from_float, read_image, to_channels, to_float, write_image
from img2img.imaging.folders import lies_in
from img2img.tasks.gather import gather
from img2img.tasks.thresholds import Threshold

MASKS = "_masks"
"""Ending of the names of folders of masks that lie beside the images' folders."""
RED, YELLOW = (215, 25, 20), (255, 230, 60)
YELLOW_FROM = 16.0  # times the threshold
ABOUT = """\
Each image has two pictures here, as large as the image.

NAME.map.png: 16-bit gray, the root of the model's map. For an autoencoder that is the root mean squared error about
each pixel, between the image and its reconstruction. The scale is the same in all files: 65535 is 1, the whole range of
pixel values. Errors are a small part of it, so a viewer shows most maps nearly black: let it stretch the contrast.

NAME.overlay.png: the image, red to yellow where the model's map stands out. There it exceeds
{rules}
Yellow is {yellow:.0f} times as much. Colour does not make an image abnormal, for normal images have some too; the table
of `img2img score` says which images are abnormal.
"""
ABSOLUTE = "- {limit.value:.3g}, which {limit.quantile:.0%} of the pixels of held-out normal images do not exceed"
RELATIVE = """\
- or {limit.value:.3g} times its mean over the same image, which {limit.quantile:.0%} of these pixels do not exceed:
  so a defect stands out of its own image, also where other images are reconstructed worse than this one"""


class MapFiles:
    """Writes the maps of images as files.

    Args:
        folder: Where to; it gets the tree of the images.
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
        names = {path: path.relative_to(root).as_posix() for path in paths}
        often = Counter(without_extension(name) for name in names.values())
        self.names = {
            str(path): name if often[without_extension(name)] > 1 else without_extension(name)
            for path, name in names.items()
        }

    def write(self, path: str, values: NDArray[np.float32], contrast: NDArray[np.float32] | None = None) -> None:
        """Writes an image's map and overlay.

        Args:
            path: The image.
            values: Its map, H×W of the image's own size.
            contrast: The map relative to the level of the image, alike; None for a model that has none.
        """
        times = values / self.limit.value
        if contrast is not None and self.contrast_limit is not None:
            times = np.maximum(times, contrast / self.contrast_limit.value)
        try:
            picture = from_float(np.sqrt(values)[..., None], np.uint16)
            write_image(self.folder / f"{self.names[path]}.map.png", Image(picture, None, {}))
            overlay = draw_overlay(read_image(Path(path)).pixels, times)
            write_image(self.folder / f"{self.names[path]}.overlay.png", Image(overlay, None, {}))
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
    """Returns an image with the pixels that exceed their threshold coloured.

    Args:
        pixels: The image, H×W×1 or H×W×3.
        times: How many times the threshold each pixel of the map is, H×W.

    Returns:
        H×W×3: as the image up to 1, red above 1, yellow from `YELLOW_FROM`.
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
    """Tells images from masks that lie among them, and finds the mask of each image.

    Args:
        root: Folder of the images.
        paths: The image files in it.
        masks: A folder with the images' relative paths, or the ending of the names of folders of masks beside the
            images' (`blowhole/a.jpg`, `blowhole_masks/a.png`); None for `_masks`, if there are such folders.

    Returns:
        The images without the masks, and the mask of each image that has one.

    Raises:
        UserError: If masks were named and there are none, or an image has several.
    """
    ending = MASKS if masks is None else masks
    if masks is not None and Path(masks).is_dir():
        folder = Path(masks)
        images = [path for path in paths if not lies_in(path, folder)]
        named = {path.relative_to(folder).as_posix(): path for path in find_images(folder)}
    else:
        labels = {path.relative_to(root).parent for path in paths}
        beside = {label for label in labels if _of(label, ending) != label and _of(label, ending) in labels}
        images = [path for path in paths if path.relative_to(root).parent not in beside]
        kept = set(images)
        relative = {path: path.relative_to(root) for path in paths if path not in kept}
        named = {(_of(name.parent, ending) / name.name).as_posix(): path for path, name in relative.items()}
    matches = match_names((path.relative_to(root).as_posix() for path in images), named)
    if matches.ambiguous:
        ours, theirs = matches.ambiguous[0]
        raise UserError(f"which mask belongs to {listed(ours)} cannot be told: there are {listed(theirs)}")
    if masks is not None and not matches.pairs:
        raise UserError(
            f"--masks {masks}: no image under {root} has a mask there; give a folder with the images' relative paths, "
            f"or an ending such as {MASKS} for folders beside theirs"
        )
    return images, {str(root / name): named[mask] for name, mask in matches.pairs.items()}


def _of(label: Path, ending: str) -> Path:
    """Maps `x_masks/` to `x/`; other folders to themselves."""
    return Path(*(part.removesuffix(ending) or part for part in label.parts))


Counts = dict[tuple[str, str, bool], PixelHistogram]
"""Values of the pixels of a label's maps, by label, prefix, and whether they lie inside of the masks."""


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

    def add(self, path: str, label: str, maps: dict[str, NDArray[np.float32]]) -> None:
        """Counts the pixels of an image's maps, by their prefix, each H×W of the image's own size."""
        shape = next(iter(maps.values())).shape
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
            for inside in (False, True):
                self.counts.setdefault((label, prefix, inside), PixelHistogram()).add(values[abnormal == inside])

    def gathered_quality(self) -> Table:
        """Returns how well the maps tell the masked pixels of each label from all normal pixels.

        Over the images of all processes; every process must call it.
        """
        counts: Counts = {}
        for ours in gather([self.counts]):
            for key, histogram in ours.items():
                counts[key] = counts.get(key, PixelHistogram()) + histogram
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
