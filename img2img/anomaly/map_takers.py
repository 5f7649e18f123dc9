"""What takes the maps of each image as soon as it is scored, so that no map is kept: files, counts, pictures."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from img2img.anomaly.detection import Table
from img2img.anomaly.maps import MapFiles
from img2img.anomaly.masked_pixels import MaskedPixels
from img2img.anomaly.report_pictures import ReportPictures
from img2img.tasks.base import Batch
from img2img.tasks.thresholds import Scored, Threshold


@dataclass(frozen=True)
class MapTakers:
    """Those that are wanted.

    Attributes:
        files: Writes maps and overlays.
        pixels: Compares maps with masks.
        pictures: Keeps pictures for a report.
        limits: `img2img.tasks.thresholds.Thresholds.pixels`, with a `map` if the model makes maps.
    """

    files: MapFiles | None
    pixels: MaskedPixels | None
    pictures: ReportPictures | None
    limits: Mapping[str, Threshold]

    @classmethod
    def wanted(
        cls,
        folder: Path | None,
        pictured: bool,
        root: Path,
        paths: Sequence[Path],
        masks: dict[str, Path],
        normal: Collection[str],
        limits: Mapping[str, Threshold],
        threshold: float,
    ) -> MapTakers:
        """Returns what takes maps; masks are used if there are any and the model makes maps.

        Args:
            folder: Where maps are written; None for nowhere.
            pictured: Whether to keep pictures.
            root: Folder of the images.
            paths: The images.
            masks: The mask of each image that has one.
            normal: Labels of normal images.
            limits: As in the attributes.
            threshold: Of the score that decides.
        """
        return cls(
            None if folder is None else MapFiles(folder, root, paths, limits),
            MaskedPixels(masks, normal, limits) if masks and "map" in limits else None,
            ReportPictures(len(paths), threshold, normal, masks, limits) if pictured else None,
            limits,
        )

    def take(self, batch: Batch, found: Scored, deciding: Sequence[float], trained_on: Sequence[bool]) -> None:
        """Writes, counts and draws the maps of a batch.

        Args:
            batch: The images, as `LabelledImages` reads them.
            found: What the model says about them.
            deciding: The score of each that decides.
            trained_on: Whether each is a training image; those are not compared with masks.
        """
        if self.files is None and self.pixels is None and self.pictures is None:
            return
        maps = {prefix: values.float().cpu().numpy() for prefix, values in found.maps.items()}
        contrast, marks = (
            each if each is None else each.float().cpu().numpy() for each in (found.contrast, found.marks)
        )
        for i, path in enumerate(batch["path"]):
            if batch["problem"][i] or not batch["counted"][i]:
                continue
            label, own = batch["label"][i], {prefix: values[i] for prefix, values in maps.items()}
            relative = None if contrast is None else contrast[i]
            marked = None if marks is None or "marks" not in self.limits else marks[i]
            if self.files is not None:
                self.files.write(path, own[""], relative, marked)
            if self.pixels is not None and not trained_on[i]:
                self.pixels.add(path, label, tuple(batch["size"][i].tolist()), own)
            if self.pictures is not None:
                self.pictures.add(path, label, deciding[i], own.get("") if marked is None else marked, relative)

    def problems(self) -> list[str]:
        """Returns a line for each map, mask or picture of this process with which something is wrong."""
        return [line for one in (self.files, self.pixels, self.pictures) if one is not None for line in one.problems]

    def add_quality(self, table: Table) -> None:
        """Adds to a table how well the maps of all processes find what is masked; every process must call it."""
        if self.pixels is not None:
            for label, of_maps in self.pixels.gathered_quality().items():
                table[label] = table.get(label, {}) | of_maps
