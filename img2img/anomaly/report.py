"""The report of scored images: one HTML page with the images from the most abnormal one on, and what the counts say."""

from __future__ import annotations

import os
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote

from img2img.anomaly.detection import PIXELS
from img2img.anomaly.quality_table import TEXTS, table_columns
from img2img.anomaly.report_scale import draw_scale, groups_of
from img2img.inference.page import (
    as_choices,
    as_details,
    as_facts,
    as_image,
    as_name,
    as_number,
    as_text,
    read_template,
    write_page,
)
from img2img.latents.runner import Row
from img2img.version import __version__

if TYPE_CHECKING:
    from torch import Tensor

    from img2img.anomaly.report_pictures import Layers, Pictures
    from img2img.anomaly.scoring import Scores

WORDS = {True: "abnormal", False: "normal"}


def write_report(
    path: Path,
    scores: Scores,
    model: str,
    root: Path,
    normal: Collection[str],
    held_out: Tensor,
    pictures: Mapping[str, Pictures],
    replace: bool,
) -> None:
    """Writes the page; it appears complete or not at all.

    Args:
        path: File to write.
        scores: What was found.
        model: What the page calls the model.
        root: Folder of the images, to which the page links.
        normal: Labels of normal images; empty if nothing is known.
        held_out: The deciding score of held-out normal images.
        pictures: By the path of each image on the page.
        replace: Whether to replace a file that is there.

    Raises:
        FileExistsError: If a file is there and may not be replaced.
        OSError: If the page cannot be written.
    """
    ranked = scores.ranked()
    shown = [(row, pictures[full]) for row in ranked if (full := str(root / row["path"])) in pictures]
    limit = scores.thresholds[scores.recommended]

    def cards() -> Iterator[tuple[str, str]]:
        cut = _cut(limit)
        for row, own in shown:
            if cut and not row["abnormal"]:
                yield "gallery", cut
                cut = ""
            yield "gallery", _card(row, scores.recommended, own, _link(root / row["path"], path), normal)
        if cut:
            yield "gallery", cut

    def values() -> dict[str, str]:
        groups = groups_of(scores.rows, scores.recommended, normal, held_out.double().numpy())
        labels = sorted({row["label"] for row, _ in shown})
        choices = {"": "All", "abnormal": "Abnormal", "normal": "Normal"} | ({"wrong": "Wrong"} if normal else {})
        return {
            "title": as_text(f"Scores: {root.resolve().name}"),
            "counts": _counts(scores, len(shown)),
            "facts": as_facts(_facts(scores, model)),
            "scale": draw_scale(groups, limit),
            "quality": _quality(scores),
            "choices": as_choices(choices),
            "labels": "".join(f'<option value="{as_text(label)}">{as_text(label or ".")}</option>' for label in labels),
            "no_labels": "" if len(labels) > 1 else " hidden",
            "no_marks": "" if any(own.whole.marks for _, own in shown) else " hidden",
            "no_truth": "" if any(own.whole.truth for _, own in shown) else " hidden",
            "problems": "".join(f"<li>{as_text(problem)}</li>" for problem in scores.problems),
            "no_problems": "" if scores.problems else " hidden",
        }

    write_page(path, read_template("img2img.anomaly", "report.html"), cards(), values, replace=replace)


def _facts(scores: Scores, model: str) -> dict[str, str]:
    limit, held_out = as_number(scores.thresholds[scores.recommended]), f"{scores.held_out:,} held-out normal images"
    return {
        "Score": scores.recommended,
        "Threshold": f"{limit}: {100 * scores.quantile:.4g} % of {held_out} do not exceed it",
        "Model": model,
        "Version": f"img2img {__version__}",
        "Scored": time.strftime("%Y-%m-%d %H:%M"),
    }


def _counts(scores: Scores, shown: int) -> str:
    """Returns the counts in words; the script writes the numbers again when the threshold moves."""
    rows, judged = scores.rows, scores.verdicts
    found = sum(row["abnormal"] for row in rows)
    lines = [f'<b id="found">{found:,}</b> of {len(rows):,} images {"is" if found == 1 else "are"} abnormal']
    if judged is not None:
        lines.append(f'<b id="false">{judged.false_alarms:,}</b> of {judged.normal:,} normal images are false alarms')
    if judged is not None and judged.abnormal:
        lines.append(f'<b id="missed">{judged.misses:,}</b> of {judged.abnormal:,} abnormal images are missed')
        lines.append('<span id="rates"></span>')
    if trained_on := sum(row["trained_on"] for row in rows):
        lines.append(f"{trained_on:,} were trained on, and count neither as normal nor as abnormal")
    if shown < len(rows):
        also = " and those that are missed" if judged is not None else ""
        lines.append(f"the page shows <b>{shown:,}</b>: the most abnormal ones{also}")
    return "".join(f"<li>{line}</li>" for line in lines)


def _quality(scores: Scores) -> str:
    """Returns the table of how well the deciding score and the maps detect; empty without labels."""
    if not scores.table:
        return ""
    columns = table_columns(scores.table, [scores.recommended, PIXELS])
    heads, *lines = zip(*columns, strict=True)
    head = "".join(f'<th scope="col">{as_text(cell)}</th>' for cell in heads)
    body = "".join(f"<tr>{_cells(line)}</tr>" for line in lines)
    return f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"


def _cells(line: Sequence[str]) -> str:
    first = "".join(f'<th scope="row"><bdi>{as_text(cell)}</bdi></th>' for cell in line[:TEXTS])
    return first + "".join(f"<td>{cell}</td>" for cell in line[TEXTS:])


def _cut(threshold: float) -> str:
    return f'<p class="cut"><span>Threshold <b>{as_number(threshold)}</b>: normal from here on</span></p>\n'


def _card(row: Row, score: str, pictures: Pictures, link: str, normal: Collection[str]) -> str:
    """Returns one image of the page."""
    name = as_name(row["path"])
    if link:
        name = f'<a href="{link}" target="_blank" rel="noopener">{name}</a>'
    truth = "" if not normal or row["trained_on"] else WORDS[row["label"] not in normal]
    verdict = WORDS[row["abnormal"]]
    wrong = {"normal": "false alarm", "abnormal": "missed"}[truth] if truth not in ("", verdict) else ""
    whole = pictures.whole
    details = [f'<b class="verdict {verdict}">{verdict}</b>', f"{as_text(score)} <b>{as_number(row[score])}</b>"]
    details += [f'<span class="wrong"{"" if wrong else " hidden"}>{wrong}</span>'] if truth else []
    details += [f"{whole.width:,} × {whole.height:,}", *_recurs(row)]
    views = _view(whole) + ("" if pictures.detail is None else _view(pictures.detail, "highest value, full size"))
    data = {"score": repr(row[score]), "truth": truth, "label": as_text(row["label"])}
    attributes = " ".join(f'data-{key}="{value}"' for key, value in data.items())
    return (
        f'<article class="card" {attributes}>{views}'
        f'<div class="text"><h3>{name}</h3>{as_details(details)}</div></article>\n'
    )


def _recurs(row: Row) -> list[str]:
    """Returns what is to be said about an image that the model knows from training."""
    return ["trained on"] if row["trained_on"] else ["like a training image"] if row["near_duplicate"] else []


def _view(layers: Layers, caption: str = "") -> str:
    size = layers.width, layers.height
    images = as_image(layers.photo, "image", *size)
    if layers.marks is not None:
        images += as_image(layers.marks, "where its map exceeds the threshold", *size, kind="marks")
    if layers.truth is not None:
        images += as_image(layers.truth, "outline of the mask", *size, kind="truth")
    caption = f"<figcaption><span>{caption}</span></figcaption>" if caption else ""
    return f'<figure class="view"><div class="pictures"><noscript>{images}</noscript></div>{caption}</figure>'


def _link(image: Path, page: Path) -> str:
    """Returns the address of an image relative to the page, quoted; empty if it has none, on another drive."""
    try:
        relative = Path(os.path.relpath(image, page.parent)).as_posix()
    except ValueError:
        return ""
    # "./" and the quoted colon make a link of a file named `javascript:…`; the bytes of the name are kept.
    return "./" + quote(relative, safe="/", errors="surrogateescape")
