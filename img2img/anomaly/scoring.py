"""Scores the images of a folder: how abnormal each is, where, and how well the scores detect what the labels say."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from img2img.anomaly.detection import Table, Verdicts, detection, normal_labels, verdicts
from img2img.anomaly.scorable import Scorable, by_image, open_scorable
from img2img.errors import UserError
from img2img.imaging.parts import appearing
from img2img.inference.checks import check_folders, check_output_file
from img2img.latents.runner import Batch, Devices, Row, first_process, name_of, run_over, split_problems

if TYPE_CHECKING:
    from img2img.anomaly.map_takers import MapTakers
    from img2img.data.near_duplicates import KnownImages
    from img2img.tasks import Task
    from img2img.tasks.thresholds import HeldOut

FLAGS = ("abnormal", "trained_on", "near_duplicate")
"""Columns of the table that are 0 or 1."""


@dataclass(frozen=True, eq=False)
class Scores:
    """Scores of the images of a folder, the same on every process.

    Attributes:
        rows: A dictionary for each image that could be read: `path` (relative), `label`, its scores, `abnormal`
            (whether the deciding score exceeds its threshold), `trained_on` (whether it is a training image, at
            most resized or encoded again), and `near_duplicate` (whether it shows the same as a training image).
        names: Names of the scores.
        recommended: The score that decides: `by`, or the one that the model recommends.
        thresholds: The threshold of each score.
        quantile: Fraction of the held-out normal images that do not exceed their thresholds.
        held_out: Number of held-out normal images.
        table: How well each score detects, where labels say what is normal; without images that were trained on.
        verdicts: How often the threshold of the deciding score is right on the images of the table; None where no
            label is normal.
        problems: A line for each image that could not be read, map or picture that could not be made, or mask that
            could not be used.
    """

    rows: tuple[Row, ...]
    names: tuple[str, ...]
    recommended: str
    thresholds: Mapping[str, float]
    quantile: float
    held_out: int
    table: Table
    verdicts: Verdicts | None
    problems: tuple[str, ...] = ()

    def ranked(self) -> list[Row]:
        """Returns the rows, the most abnormal first."""
        return sorted(self.rows, key=lambda row: -row[self.recommended])


def score(
    input: str | Path,
    output: str | Path | None,
    model: str | Path | Task,
    maps: str | Path | None = None,
    html: str | Path | None = None,
    normal: Sequence[str] = (),
    masks: str | None = None,
    tensorboard: str | Path | None = None,
    quantile: float | None = None,
    by: str | None = None,
    overwrite: bool = False,
    trust: Sequence[str] = (),
    progress: bool = False,
    **devices: Any,
) -> Scores:
    """Scores how abnormal each image of a folder is; a file that cannot be read does not stop the others.

    Args:
        input: Folder (searched recursively) or image; the names of folders are the labels.
        output: Table to write, OUT.csv: path, label, a column for each score (PCA's as pca_<score>), abnormal (1 where
            the deciding score exceeds its threshold), trained_on (1 for training images) and near_duplicate (1 for
            images that show the same as a training image). In Python also None.
        model: Checkpoint, such as runs/anomaly/0/best.ckpt. In Python also a task.
        maps: Folder for maps of where images are abnormal, and overlays; its README.txt says what they mean.
        html: Report to write, OUT.html: one page with the images from the most abnormal one on, what is marked on
            them, the histograms, and a threshold that can be moved; it works offline.
        normal: Folder of normal images (default: good, normal).
        masks: What is abnormal, in white: a folder with the images' relative paths, or the ending of the names of
            folders beside theirs (default: _masks, if there are any).
        tensorboard: Folder for histograms of normal and abnormal scores, for img2img watch.
        quantile: Fraction of held-out normal images below the threshold (default: what the model was calibrated with,
            0.95).
        by: The score that decides, such as neighbour (default: the one that the model recommends).
        overwrite: Replace a table, a report or maps that are there.
        trust: Further package whose classes the checkpoint may name.
        progress: Whether to show a bar.
        devices: accelerator, devices, num_nodes, precision and batch_size, see `img2img.latents.runner.Devices`.

    Raises:
        UserError: If the model is not scorable or not calibrated, an option is wrong, or no image can be read.
        FileNotFoundError: If the checkpoint does not exist.
    """
    source, table = Path(input), None if output is None else Path(output)
    _check(source, table, maps, html, tensorboard, overwrite)
    where = Devices(**devices)
    from img2img.anomaly.map_takers import MapTakers
    from img2img.data.labelled_images import LabelledImages
    from img2img.data.masks import find_masks
    from img2img.data.near_duplicates import KnownImages
    from img2img.tasks.gather import gather

    task, scorable = open_scorable(model, trust)
    held_out = _held_out(scorable, name_of(model), quantile)
    decides = scorable.recommended if by is None else by
    if decides not in held_out:
        raise UserError(f"--by {by}: {name_of(model)} has no such score; it has {', '.join(held_out)}")
    limits, deciding = {name: held.threshold for name, held in held_out.items()}, held_out[decides]
    images = LabelledImages(source, scorable.image_size, scorable.in_channels, where.batch_size)
    images.paths, masked = find_masks(images.root, images.paths, masks)
    labels = {path.relative_to(images.root).parent.as_posix() for path in images.paths}
    good = normal_labels({"" if label == "." else label for label in labels}, normal)
    pixel_limits = scorable.thresholds.pixels
    if maps is not None and "map" not in pixel_limits:
        raise UserError(f"this model ({type(task).__name__}) makes no maps: leave out --maps")
    folder, known = None if maps is None else Path(maps), (images.root, images.paths, masked, good, pixel_limits)
    takers = MapTakers.wanted(folder, html is not None, *known, deciding.threshold)
    scoring = partial(_score_batch, scorable, decides, takers, KnownImages(scorable.thresholds.fingerprints))
    found, problems = split_problems(run_over(task, images, scoring, where, progress=progress))
    problems += gather(takers.problems())
    rows = tuple(_row(row, images.root, decides, limits) for row in found)
    names = tuple(name for name in found[0]["scores"] if name in limits)
    fresh = [row for row in rows if not row["trained_on"]]
    quality, judged = detection(fresh, names, good, limits), verdicts(fresh, good)
    takers.add_quality(quality)
    measured = limits, deciding.quantile, len(deciding.normal)
    scores = Scores(rows, names, decides, *measured, quality, judged, tuple(problems))
    pictures = {} if takers.pictures is None else takers.pictures.gathered()
    if first_process():
        if takers.files is not None:
            takers.files.explain()
        if table is not None:
            _write(scores, table)
        if html is not None:
            from img2img.anomaly.report import write_report

            write_report(Path(html), scores, name_of(model), images.root, good, deciding.normal, pictures, overwrite)
        if tensorboard is not None:
            from img2img.anomaly.tensorboard import log_scores

            log_scores(Path(tensorboard), fresh or rows, names, good, held_out)
    return scores


def _check(
    source: Path,
    output: Path | None,
    maps: str | Path | None,
    html: str | Path | None,
    tensorboard: str | Path | None,
    overwrite: bool,
) -> None:
    if not source.exists():
        raise UserError(f"{source} does not exist; give a folder of images or an image")
    if output is not None:
        if output.suffix.lower() != ".csv":
            raise UserError(f"the output {output} is a table: name it .csv")
        check_output_file(output, source, overwrite)
    if html is not None:
        if Path(html).suffix.lower() not in (".html", ".htm"):
            raise UserError(f"--html {html} is a page: name it .html")
        check_output_file(Path(html), source, overwrite)
    for option, given in (("--maps", maps), ("--tensorboard", tensorboard)):
        if given is None:
            continue
        folder = Path(given)
        if folder.exists() and not folder.is_dir():
            raise UserError(f"{option} {folder} is a file; give a folder")
        check_folders(source, folder)
        if folder.is_dir() and any(folder.iterdir()) and not overwrite:
            raise UserError(f"{option} {folder} is not empty; give --overwrite to write there, or another folder")


def _held_out(scorable: Scorable, name: str, quantile: float | None) -> Mapping[str, HeldOut]:
    """Returns the thresholds of the model's scores, at another quantile if one is given."""
    from img2img.anomaly.calibration import check_quantile, threshold_of

    known = scorable.thresholds.scores
    if scorable.recommended not in known:
        raise UserError(
            f"{name} does not know yet what is normal, which is measured when training ends: continue with "
            "img2img fit … --ckpt_path last"
        )
    if quantile is None:
        return known
    check_quantile(quantile)
    return {
        name: replace(held, quantile=quantile, threshold=threshold_of(held.normal, quantile))
        for name, held in known.items()
    }


def _score_batch(
    scorable: Scorable, decides: str, takers: MapTakers, known: KnownImages, task: Task, batch: Batch
) -> dict[str, Any]:
    """Scores a batch; its maps are written, counted and drawn immediately."""
    found = scorable.score_batch(batch)
    matches = known.match_all(batch["image"])
    trained_on = [match is not None and match.copy for match in matches]
    scores = by_image(found.scores)
    takers.take(batch, found, [own[decides] for own in scores], trained_on)
    return {"scores": scores, "trained_on": trained_on, "near_duplicate": [match is not None for match in matches]}


def _row(found: Row, root: Path, decides: str, limits: Mapping[str, float]) -> Row:
    """Returns an image's row of `Scores` from its row of `run_over`."""
    path, scores = Path(found["path"]).relative_to(root).as_posix(), found["scores"]
    abnormal = scores[decides] > limits[decides]
    recurs = {name: found[name] for name in ("trained_on", "near_duplicate")}
    return {"path": path, "label": found["label"], **scores, "abnormal": abnormal, **recurs}


def _write(scores: Scores, output: Path) -> None:
    from img2img.latents.table import cell

    with appearing(output) as part, part.open("w", newline="", encoding="utf-8", errors="surrogateescape") as file:
        table = csv.writer(file)
        table.writerow(["path", "label", *scores.names, *FLAGS])
        for row in scores.rows:
            values = [f"{row[name]:.8g}" for name in scores.names]
            table.writerow([cell(row["path"]), cell(row["label"]), *values, *(int(row[name]) for name in FLAGS)])
