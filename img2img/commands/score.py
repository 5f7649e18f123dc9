"""`img2img score`: how abnormal each image of a folder is, to a model that was trained on normal ones only."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

from img2img.anomaly.detection import PCA, PIXELS, Table
from img2img.anomaly.scoring import Scores, score
from img2img.errors import printable
from img2img.latents.runner import Devices, first_process
from img2img.signature_parser import parser_of

MOST_LISTED = 10
"""Images that are listed as the most abnormal."""


def run(command: str, arguments: Sequence[str]) -> None:
    """Scores a folder and prints what was found.

    Raises:
        SystemExit: With code 1 if some file could not be read, written or used.
    """
    about = "Say how abnormal images are to a model that was trained on normal ones only."
    parser = parser_of(score, command, about, hidden=["progress"], shared=[Devices])
    parser.add_argument("--all_scores", action="store_true", help="Print how well every score detects.")
    options = vars(parser.parse_args(arguments))
    all_scores = options.pop("all_scores")
    sys.path.append(os.getcwd())  # networks of one's own, beside the images
    scores = score(**options, progress=True)
    if not first_process():
        return  # Lightning kills the first process where another one fails
    for problem in scores.problems:
        print(printable(f"skipped: {problem}"), file=sys.stderr)
    print(summary(scores, options["output"], all_scores))
    if scores.problems:
        raise SystemExit(1)


def summary(scores: Scores, output: str, all_scores: bool = False) -> str:
    """Returns what the command prints: the verdicts, the most abnormal images, and how well they are detected.

    Args:
        scores: What was found.
        output: The table that was written.
        all_scores: Whether to say of every score how well it detects; else of the recommended one, and of the maps.
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
    if judged is not None:
        misses = f"; misses: {judged.misses} of {judged.abnormal} abnormal image(s)" if judged.abnormal else ""
        lines.append(f"false alarms: {judged.false_alarms} of {judged.normal} normal image(s){misses}")
    lines += ["", f"most abnormal, by {best}:"]
    for row in scores.ranked()[:MOST_LISTED]:
        lines.append(f"{row[best]:>11.4g}  {printable(row['path'])}")
    if scores.table:
        shown = [name for name in scores.names if not name.startswith(PCA)] if all_scores else [best]
        lines += ["", *described(scores.table, [*dict.fromkeys([best, *shown]), PIXELS])]
        if not all_scores:
            lines.append("(--all_scores prints the other scores too)")
    return "\n".join(lines)


def described(table: Table, names: Sequence[str]) -> list[str]:
    """Returns lines of the table in aligned columns, PCA's figures beside the model's.

    Args:
        table: The quality of the scores for each label.
        names: The scores to show, in this order; those that the table lacks are left out.
    """
    wide, narrow = max(len(printable(label)) for label in table), max(map(len, names))
    lines = [f"{'':<{wide}}  {'':<{narrow}}  AUROC   PCA's  average precision   PCA's"]
    for label, qualities in table.items():
        shown = printable(label)
        for name in names:
            if name in qualities:
                quality, linear = qualities[name], qualities.get(PCA + name, (None, None))
                own, pca = ([_figure(value) for value in values] for values in (quality, linear))
                lines.append(f"{shown:<{wide}}  {name:<{narrow}}  {own[0]}   {pca[0]}  {own[1]:>17}   {pca[1]}")
                shown = ""
    return [line.rstrip() for line in lines]


def _figure(value: float | None) -> str:
    return "     " if value is None else f"{value:.3f}"
