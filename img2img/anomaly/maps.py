"""Maps of where images are abnormal, as files in the images' own size."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from img2img.anomaly.overlay import STRONG_FROM, draw_overlay, resize_map, times_threshold
from img2img.data.matching import without_extension
from img2img.imaging.files import Image, from_float, read_image, write_image
from img2img.tasks.thresholds import Threshold

ABOUT = """\
Each image has two pictures here, as large as the image.

NAME.map.png: 16-bit gray, the root of the model's map. For anomaly segmentation the map is the probability that a pixel
is abnormal. For an autoencoder it is the mean squared error about each pixel, between the image and its reconstruction,
so that its root is in the unit of pixel values. The scale is the same in all files: 65535 is 1, certainty or the whole
range of pixel values. Errors are a small part of it, so a viewer shows their maps nearly black: let it stretch the
contrast.

NAME.overlay.png: the image, red where the model's map stands out, with a thin outline around that. There it exceeds
{rules}
{unmarked}
The red is strongest from {strong:.0f} times as much. Red does not make an image abnormal, because some normal images
have some too; the table of `img2img score` says which images are abnormal.
"""
ABSOLUTE = "- {value:.3g}"
RELATIVE = """\
- or {value:.3g} times its mean over the same image: so a defect stands out of its own image, also where other images
  are reconstructed worse than this one"""
OF_IMAGES = """\
{quantile:.0%} of the held-out normal images have no red at all. For anomaly segmentation the map is smoothed first, so
that no single pixel turns red: each pixel becomes the mean over half of the task's window."""
OF_PIXELS = "{quantile:.0%} of the pixels of held-out normal images do not exceed each of these."


class MapFiles:
    """Writes the maps of images as files.

    Args:
        folder: The folder for the maps; it gets the tree of the images.
        root: Folder of the images.
        paths: The images.
        limits: `img2img.tasks.thresholds.Thresholds.pixels`, see `times_threshold`.

    Attributes:
        problems: A line for each map that this process could not write.
    """

    def __init__(self, folder: Path, root: Path, paths: Sequence[Path], limits: Mapping[str, Threshold]) -> None:
        self.folder, self.limits = folder, limits
        self.problems: list[str] = []
        names = {str(path): path.relative_to(root).as_posix() for path in paths}
        stems = {path: without_extension(name) for path, name in names.items()}
        often = Counter(stems.values())
        self.names = {path: stem if often[stem] == 1 else names[path] for path, stem in stems.items()}

    def write(
        self,
        path: str,
        values: NDArray[np.float32],
        contrast: NDArray[np.float32] | None = None,
        marks: NDArray[np.float32] | None = None,
    ) -> None:
        """Writes an image's map (`values`, H×W of any size) and overlay, in the image's own size.

        The overlay also shows a high `contrast`, H×W: the map relative to the level of the image. It shows the smoothed
        map, `marks`, instead of the map if there is one.
        """
        try:
            pixels = read_image(Path(path)).pixels
            times = times_threshold(values if marks is None else marks, contrast, self.limits, pixels.shape)
            picture = from_float(np.sqrt(resize_map(values, pixels.shape))[..., None], np.uint16)
            write_image(self.folder / f"{self.names[path]}.map.png", Image(picture, None, {}))
            write_image(self.folder / f"{self.names[path]}.overlay.png", Image(draw_overlay(pixels, times), None, {}))
        except (OSError, ValueError) as error:
            self.problems.append(f"the map of {path} cannot be written: {error}")

    def explain(self) -> None:
        """Writes README.txt, which says what the files mean."""
        marks = self.limits.get("marks")
        times, last = 1.0 if marks is None else marks.value, self.limits["map"] if marks is None else marks
        rules = [ABSOLUTE.format(value=times * self.limits["map"].value)]
        if "contrast" in self.limits:
            rules.append(RELATIVE.format(value=times * self.limits["contrast"].value))
        unmarked = (OF_PIXELS if marks is None else OF_IMAGES).format(quantile=last.quantile)
        self.folder.mkdir(parents=True, exist_ok=True)
        text = ABOUT.format(rules="\n".join(rules) + ".", unmarked=unmarked, strong=STRONG_FROM)
        (self.folder / "README.txt").write_text(text, encoding="utf-8")
