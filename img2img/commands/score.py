"""`img2img score`: how abnormal each image of a folder is, to a model that was trained on normal ones only."""

from __future__ import annotations

from collections.abc import Sequence

from img2img.anomaly.detection import PCA, PIXELS, Table
from img2img.anomaly.quality_table import TEXTS, table_columns
from img2img.anomaly.scoring import Scores, score
from img2img.commands.carry_out import carry_out
from img2img.data.matching import listed
from img2img.errors import printable
from img2img.latents.runner import Devices
from img2img.signature_parser import parser_of

MOST_LISTED = 10
"""Images that are listed as the most abnormal."""


def run(command: str, arguments: Sequence[str]) -> None:
    """Scores a folder and prints what was found."""
    parser = parser_of(score, command, shared=[Devices])
    parser.add_argument("--all_scores", action="store_true", help="Print how well every score detects.")
    options = vars(parser.parse_args(arguments))
    all_scores = options.pop("all_scores")
    carry_out(score, options, lambda scores: summary(scores, options["output"], all_scores, options["html"]))


def summary(scores: Scores, output: str, all_scores: bool = False, html: str | None = None) -> list[str]:
    """Returns the lines to print: the verdicts, the most abnormal images, and how well they are detected.

    Args:
        scores: What was found.
        output: The table that was written.
        all_scores: Whether to print how well every score detects; else the recommended one, and the maps.
        html: The report that was written, if any.
    """
    found, best = sum(row["abnormal"] for row in scores.rows), scores.recommended
    lines = [
        f"{found} of {len(scores.rows)} image(s) are abnormal: {best} above {scores.thresholds[best]:.4g}, which "
        f"{100 * scores.quantile:.4g} % of {scores.held_out} held-out normal image(s) do not exceed; {output}"
    ]
    trained_on, judged = sum(row["trained_on"] for row in scores.rows), scores.verdicts
    if trained_on:
        left_out = ", and are left out below" if judged is not None else ""
        lines.append(f"{trained_on} of these images were trained on{left_out}")
    recurring = [row["path"] for row in scores.rows if row["near_duplicate"] and not row["trained_on"]]
    if recurring:
        lines.append(
            f"{len(recurring)} of these images are near-duplicates of training images, and say little about new parts: "
            f"{listed(recurring)}"
        )
    if judged is not None:
        misses = f"; misses: {judged.misses} of {judged.abnormal} abnormal image(s)" if judged.abnormal else ""
        lines.append(f"false alarms: {judged.false_alarms} of {judged.normal} normal image(s){misses}")
    lines += ["", f"most abnormal, by {best}:"]
    for row in scores.ranked()[:MOST_LISTED]:
        lines.append(f"{row[best]:>11.4g}  {row['path']}")
    if scores.table:
        shown = [name for name in scores.names if not name.startswith(PCA)] if all_scores else [best]
        lines += ["", *described(scores.table, [*dict.fromkeys([best, *shown]), PIXELS])]
        if not all_scores:
            lines.append("(--all_scores prints the other scores too)")
    if html is not None:
        lines += ["", f"report: {html}"]
    return lines


def described(table: Table, names: Sequence[str]) -> list[str]:
    """Returns lines of the table in aligned columns, PCA's figures beside the model's; without columns that are empty.

    Args:
        table: The quality of the scores for each label.
        names: The scores to show, in this order; those that the table lacks are left out.
    """
    columns = [[printable(cell) for cell in column] for column in table_columns(table, names)]
    widths = [max(map(len, column)) for column in columns]
    aligned = [
        [f"{cell:{'<' if i < TEXTS else '>'}{widths[i]}}" for cell in column] for i, column in enumerate(columns)
    ]
    return ["  ".join(line).rstrip() for line in zip(*aligned, strict=True)]
