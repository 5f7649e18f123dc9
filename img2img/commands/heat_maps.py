"""Where an image is abnormal: maps in its own size, as files and against masks of what really is abnormal."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from img2img.commands.detection import OVERALL, PCA, PIXELS, Quality, Table
from img2img.data.matching import listed, match_names, without_extension
from img2img.errors import UserError
from img2img.imaging.files import Image, find_images, from_float, read_image, to_channels, to_float, write_image
from img2img.imaging.folders import lies_in
from img2img.tasks.gather import gather
from img2img.tasks.pixel_histogram import PixelHistogram, auroc

MASKS = "_masks"
"""How the name of a folder of masks ends that lies beside the images' own."""
RED, YELLOW = (215, 25, 20), (255, 230, 60)
BRIGHTEST = 16.0  # times the threshold, where the overlay is yellow
ABOUT = """\
Each image has two pictures here, as large as the image.

NAME.map.png: 16-bit gray, the root of the mean squared error about each pixel, between the image and what the model
makes of it. The scale is the same in all files: 65535 is 1, the whole range of pixel values.

NAME.overlay.png: the image, red to yellow where the squared error exceeds {threshold:.3g}, which {share:.0%} of the
pixels of held-out normal images do not; yellow is {brightest:.0f} times as much.
"""


class MapFiles:
    """Writes the heat maps of images.

    Args:
        folder: Where to; the images' tree is repeated there.
        root: Folder of the images.
        paths: The images.
        limit: `threshold` and `quantile` of held-out normal images' pixels.

    Attributes:
        problems: Maps that this process could not write, a line each.
    """

    def __init__(self, folder: Path, root: Path, paths: Sequence[Path], limit: dict[str, float]) -> None:
        self.folder, self.limit = folder, limit
        self.problems: list[str] = []
        names = {path: path.relative_to(root).as_posix() for path in paths}
        often = Counter(without_extension(name) for name in names.values())
        self.names = {
            str(path): name if often[without_extension(name)] > 1 else without_extension(name)
            for path, name in names.items()
        }

    def write(self, path: str, errors: NDArray[np.float32]) -> None:
        """Writes an image's map and overlay; errors are squared, H×W of the image's own size."""
        try:
            self._write(path, errors)
        except (OSError, ValueError) as error:
            self.problems.append(f"the map of {path} cannot be written: {error}")

    def _write(self, path: str, errors: NDArray[np.float32]) -> None:
        values = from_float(np.sqrt(errors)[..., None], np.uint16)
        write_image(self.folder / f"{self.names[path]}.map.png", Image(values, None, {}))
        overlay = draw_overlay(read_image(Path(path)).pixels, errors, self.limit["threshold"])
        write_image(self.folder / f"{self.names[path]}.overlay.png", Image(overlay, None, {}))

    def explain(self) -> None:
        """Writes what the files mean."""
        text = ABOUT.format(threshold=self.limit["threshold"], share=self.limit["quantile"], brightest=BRIGHTEST)
        self.folder.mkdir(parents=True, exist_ok=True)
        (self.folder / "README.txt").write_text(text, encoding="utf-8")


def draw_overlay(pixels: NDArray[Any], errors: NDArray[np.float32], threshold: float) -> NDArray[np.uint8]:
    """Returns the image, H×W×3 uint8, coloured from red to yellow where the squared errors H×W exceed the threshold."""
    plain = to_channels(from_float(to_float(pixels), np.uint8), 3).astype(np.float32)
    times = np.maximum(errors / threshold, 1)[..., None]
    strength = np.minimum(np.log(times) / np.log(BRIGHTEST), 1)
    colour = np.array(RED, np.float32) + strength * (np.array(YELLOW, np.float32) - np.array(RED, np.float32))
    share = np.where(times > 1, 0.4 + 0.4 * strength, 0)
    return np.asarray(np.rint(plain + share * (colour - plain)), np.uint8)


def enlarge_map(errors: NDArray[np.float32], size: Sequence[int]) -> NDArray[np.float32]:
    """Returns a map at an image's height and width, in between bilinear."""
    larger = cv2.resize(errors, (int(size[1]), int(size[0])), interpolation=cv2.INTER_LINEAR)
    return np.asarray(larger, np.float32)


def find_masks(root: Path, paths: Sequence[Path], masks: str | None) -> tuple[list[Path], dict[str, Path]]:
    """Returns the images without the masks that lie among them, and each image's mask.

    Args:
        root: Folder of the images.
        paths: What was found there.
        masks: A folder with the images' relative paths, or how the folders of masks end that lie beside the images'
            (`blowhole/a.jpg`, `blowhole_masks/a.png`); None for `_masks`, if there are any.

    Raises:
        UserError: If there are no masks, or which belongs to an image cannot be told.
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
    """Returns whose masks a folder holds; the folder itself where no part of its path ends so."""
    return Path(*(part.removesuffix(ending) or part for part in label.parts))


class MaskedPixels:
    """Counts the values of maps inside and outside of the masks, for an ROC curve over all pixels.

    Args:
        masks: Each image's mask, white where it is abnormal.
        normal: Labels whose images are normal all over; others without a mask are left out.

    Attributes:
        problems: Masks that could not be used, a line each.
    """

    def __init__(self, masks: dict[str, Path], normal: Collection[str]) -> None:
        self.masks, self.normal = masks, set(normal)
        self.counts: dict[tuple[str, str, bool], PixelHistogram] = {}
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
        for prefix, errors in maps.items():
            for inside in (False, True):
                self.counts.setdefault((label, prefix, inside), PixelHistogram()).add(errors[abnormal == inside])

    def gather(self) -> MaskedPixels:
        """Adds what the other processes counted; every process must call it."""
        everyones, self.counts = gather([self.counts]), {}
        for counts in everyones:
            for key, histogram in counts.items():
                self.counts[key] = self.counts.get(key, PixelHistogram()) + histogram
        self.problems = gather(self.problems)
        return self

    def quality(self) -> Table:
        """Returns how well the maps find the masked pixels, for each label, among those of all normal images."""
        labels = sorted({label for label, _, _ in self.counts} - self.normal)
        groups = {label or ".": [label] for label in labels} | ({OVERALL: labels} if len(labels) > 1 else {})
        table: Table = {}
        for name, group in groups.items():
            for prefix in ("", PCA):
                inside = self._sum(group, prefix, True)
                outside = self._sum([*group, *sorted(self.normal)], prefix, False)
                if inside.counts.any() and outside.counts.any():
                    table.setdefault(name, {})[prefix + PIXELS] = Quality(auroc(outside, inside), None)
        return table

    def _sum(self, labels: Sequence[str], prefix: str, inside: bool) -> PixelHistogram:
        found = (self.counts.get((label, prefix, inside), PixelHistogram()) for label in labels)
        return sum(found, PixelHistogram())
