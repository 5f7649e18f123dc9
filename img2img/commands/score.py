"""`img2img score`: how abnormal each image of a folder is, to an autoencoder that has seen normal ones only."""

from __future__ import annotations

import argparse
import csv
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from img2img.commands.applying import (
    Batch,
    Devices,
    apply,
    first_process,
    open_autoencoder,
    parse,
    without_problems,
)
from img2img.commands.checks import check_folders, check_output_file
from img2img.commands.detection import Table, describe, detection, normal_labels
from img2img.errors import UserError, printable
from img2img.imaging.parts import appearing

if TYPE_CHECKING:
    from img2img.commands.heat_maps import MapFiles, MaskedPixels
    from img2img.tasks import Autoencoder
    from img2img.tasks.scores import Scorer

DEFAULT_SCORE = "neighbour"
"""The score whose threshold decides what is abnormal, of those in `img2img.tasks.scores`."""


@dataclass
class Scores:
    """What `score` returns.

    Attributes:
        rows: Each image that could be read: `path` (relative), `label`, its scores, `abnormal`, and `trained_on`,
            whether it is one of the training images.
        names: The scores.
        thresholds: Of each score.
        quantile: Share of held-out normal images below the thresholds.
        held_out: How many these were.
        table: How well each score detects, where labels say what is normal; without images that were trained on.
        unreadable: How many files could not be read, or have a map that could not be written.
    """

    rows: list[dict[str, Any]]
    names: list[str]
    thresholds: dict[str, float]
    quantile: float
    held_out: int
    table: Table = field(default_factory=dict)
    unreadable: int = 0


def run(command: str, arguments: Sequence[str]) -> None:
    """Scores a folder, and says what is found.

    Raises:
        SystemExit: With code 1 if some file could not be read.
    """
    parser = argparse.ArgumentParser(
        f"img2img {command}", description="Say how abnormal images are to a model trained on normal ones only."
    )
    add = parser.add_argument
    add("source", metavar="input", help="folder (searched recursively) or image; the names of folders are the labels")
    add("output", help="the table to write, OUT.csv: a column a score, PCA's beside them")
    add("--maps", metavar="DIR", help="also where images are abnormal: maps and overlays in their own size")
    add(
        "--normal", action="append", default=[], metavar="LABEL", help="folder of normal images (default: good, normal)"
    )
    add("--masks", help="what is abnormal, in white: a folder, or the ending of folders beside (default: _masks)")
    add("--tensorboard", metavar="DIR", help="also histograms of normal and abnormal scores, for img2img watch DIR")
    add("--quantile", type=float, help="share of held-out normal images below the threshold (default: the model's)")
    add("--overwrite", action="store_true", help="replace what is there")
    options = parse(parser, arguments)
    scores = score(**options)
    if first_process():
        print(summary(scores, options["output"]))
    if scores.unreadable:
        raise SystemExit(1)


def score(
    source: str | Path,
    output: str | Path | None,
    model: str | Path | Autoencoder,
    maps: str | Path | None = None,
    normal: Sequence[str] = (),
    masks: str | None = None,
    tensorboard: str | Path | None = None,
    quantile: float | None = None,
    overwrite: bool = False,
    trust: Sequence[str] = (),
    **devices: Any,
) -> Scores:
    """Returns, and writes, how abnormal each image of a folder is; unreadable files are named on stderr.

    Args:
        source: Folder, searched recursively, or one image; the names of folders are the labels.
        output: The table to write; None for none. Columns: path, label, the scores of `img2img.tasks.scores`, PCA's as
            `pca_<score>`, `abnormal`, 1 where `neighbour` exceeds its threshold, and `trained_on`, 1 for the model's
            training images.
        model: Checkpoint, or a task from `img2img.load`.
        maps: Folder for heat maps, which must be empty; its README.txt says what they mean.
        normal: Labels of normal images; none for folders called good or normal.
        masks: A folder of masks with the images' relative paths, or how the names of folders of masks end that lie
            beside the images'; None for `_masks`, if there are any.
        tensorboard: Folder for histograms of the scores.
        quantile: Share of held-out normal images below the threshold; None for what the model was calibrated with.
        overwrite: Whether to replace a table or maps that are there.
        trust: Further packages whose classes the checkpoint may name.
        devices: accelerator, devices, num_nodes, precision and batch_size, see `img2img.commands.applying.Devices`.

    Raises:
        UserError: If the model is no calibrated autoencoder, or an option cannot be meant.
    """
    source, output = Path(source), None if output is None else Path(output)
    _check(source, output, maps, tensorboard, overwrite)
    task = open_autoencoder(model, trust)
    from img2img.commands.heat_maps import MapFiles, MaskedPixels, find_masks
    from img2img.data.labelled_images import LabelledImages
    from img2img.tasks.gather import gather
    from img2img.tasks.scores import Scorer

    where, statistics = Devices(**devices), task.statistics
    thresholds, share, held_out = _thresholds(task, model, quantile)
    data = LabelledImages(source, task.network.image_size, task.network.in_channels, where.batch_size)
    data.paths, found = find_masks(data.root, data.paths, masks)
    labels = {path.relative_to(data.root).parent.as_posix() for path in data.paths}
    good = normal_labels({"" if label == "." else label for label in labels}, normal)
    files = None if maps is None else MapFiles(Path(maps), data.root, data.paths, statistics.scores["map"])
    pixels = MaskedPixels(found, good) if found else None
    rows, unreadable = without_problems(apply(task, data, _Scoring(Scorer(statistics), files, pixels), where))
    names = [name for name in rows[0] if name in thresholds]
    for row in rows:
        row["path"] = Path(row["path"]).relative_to(data.root).as_posix()
        row["abnormal"] = row[DEFAULT_SCORE] > thresholds[DEFAULT_SCORE]
    untouched = [row for row in rows if not row["trained_on"]]
    scores = Scores(rows, names, thresholds, share, held_out, detection(untouched, names, good), unreadable)
    if pixels is not None:
        for label, quality in pixels.gather().quality().items():
            scores.table.setdefault(label, {}).update(quality)
    problems = gather([] if files is None else files.problems) + ([] if pixels is None else pixels.problems)
    scores.unreadable += len(problems)
    if first_process():
        for problem in problems:
            print(printable(f"skipped: {problem}"), file=sys.stderr)
        if files is not None:
            files.explain()
        if output is not None:
            _write(scores, output)
        if tensorboard is not None:
            _log(Path(tensorboard), scores, untouched or rows, good, statistics.scores)
    return scores


def _check(
    source: Path, output: Path | None, maps: str | Path | None, tensorboard: str | Path | None, overwrite: bool
) -> None:
    if not source.exists():
        raise UserError(f"{source} does not exist; give a folder of images or an image")
    if output is not None:
        if output.suffix.lower() != ".csv":
            raise UserError(f"the output {output} is a table: name it .csv")
        check_output_file(output, source, overwrite)
    for option, given in (("--maps", maps), ("--tensorboard", tensorboard)):
        if given is None:
            continue
        folder = Path(given)
        if folder.exists() and not folder.is_dir():
            raise UserError(f"{option} {folder} is a file; give a folder")
        check_folders(source, folder)
        if folder.is_dir() and any(folder.iterdir()) and not overwrite:
            raise UserError(f"{option} {folder} is not empty; give --overwrite to write there, or another folder")


def _thresholds(task: Autoencoder, model: object, quantile: float | None) -> tuple[dict[str, float], float, int]:
    """Returns each score's threshold, the quantile, and of how many held-out images.

    Raises:
        UserError: If the model is not calibrated, or the quantile none.
    """
    from img2img.commands.calibrate import check_quantile, threshold_of

    known = {name: held for name, held in task.statistics.scores.items() if "normal" in held}
    if DEFAULT_SCORE not in known:
        what = model if isinstance(model, str | Path) else "the model"
        raise UserError(
            f"{what} does not know yet what is normal, which is measured when training ends: go on with "
            "img2img fit … --ckpt_path last"
        )
    if quantile is None:
        first = known[DEFAULT_SCORE]
        return {name: held["threshold"] for name, held in known.items()}, first["quantile"], len(first["normal"])
    check_quantile(quantile)
    found = {name: threshold_of(held["normal"], quantile) for name, held in known.items()}
    return found, quantile, len(known[DEFAULT_SCORE]["normal"])


class _Scoring:
    """What is asked of images: their scores; their maps are written and counted on the way, and not kept."""

    def __init__(self, scorer: Scorer, files: MapFiles | None, pixels: MaskedPixels | None) -> None:
        self.scorer, self.files, self.pixels = scorer, files, pixels

    def __call__(self, task: Autoencoder, batch: Batch) -> dict[str, Any]:
        from img2img.commands.heat_maps import enlarge_map
        from img2img.tasks.scores import scores_of

        views = self.scorer.views(task, batch)
        scores = scores_of(views)
        trained_on = self.scorer.trained_on(scores)
        if self.files is not None or self.pixels is not None:
            maps = {prefix: view.map.cpu().numpy() for prefix, view in views.items()}
            for i, path in enumerate(batch["path"]):
                if batch["problem"][i] or not batch["counted"][i]:
                    continue
                size = batch["size"][i].tolist()
                if self.files is not None:
                    self.files.write(path, enlarge_map(maps[""][i], size))
                if self.pixels is not None and not trained_on[i]:
                    own = {prefix: enlarge_map(errors[i], size) for prefix, errors in maps.items()}
                    self.pixels.add(path, batch["label"][i], own)
        return scores | {"trained_on": trained_on}


def _log(
    folder: Path, scores: Scores, rows: Sequence[dict[str, Any]], good: set[str], held_out: dict[str, Any]
) -> None:
    from img2img.callbacks.score_histograms import log_scores

    log_scores(folder, rows, scores.names, scores.thresholds, good, held_out)


def _write(scores: Scores, output: Path) -> None:
    with appearing(output) as part, part.open("w", newline="", encoding="utf-8", errors="surrogateescape") as file:
        table = csv.writer(file)
        table.writerow(["path", "label", *scores.names, "abnormal", "trained_on"])
        for row in scores.rows:
            values = [f"{row[name]:.8g}" for name in scores.names]
            table.writerow([row["path"], row["label"], *values, int(row["abnormal"]), int(row["trained_on"])])


def summary(scores: Scores, output: str) -> str:
    """Returns what the command prints: the verdicts, and where labels are there, the quality of the scores."""
    lines = []
    known = sum(row["trained_on"] for row in scores.rows)
    if known:
        lines.append(f"{known} of these images were trained on" + (", and are left out here" if scores.table else ""))
    if scores.table:
        lines += [describe(scores.table), ""]
    found, threshold = sum(row["abnormal"] for row in scores.rows), scores.thresholds[DEFAULT_SCORE]
    lines.append(
        f"{found} of {len(scores.rows)} image(s) are abnormal: {DEFAULT_SCORE} above {threshold:.4g}, which "
        f"{100 * scores.quantile:.4g} % of {scores.held_out} held-out normal image(s) do not exceed; {output}"
    )
    return "\n".join(lines)
