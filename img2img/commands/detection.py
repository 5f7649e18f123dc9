"""How well scores tell normal images from abnormal ones, where folders say which is which."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import PurePosixPath
from typing import Any, NamedTuple

from img2img.errors import UserError

NORMAL = ("good", "normal")
"""Folders whose images are normal unless the user names others."""
OVERALL = "all abnormal"
PIXELS = "pixels"
PCA = "pca_"  # as in img2img.tasks.scores, which takes a second to import


class Quality(NamedTuple):
    """How well a score detects.

    Attributes:
        auroc: Area under the ROC curve: how probably an abnormal image scores more than a normal one.
        precision: Average precision; depends on how many of the images are abnormal. None for pixels.
    """

    auroc: float
    precision: float | None


Table = dict[str, dict[str, Quality]]
"""Of each abnormal label, and of all together: each score's quality."""


def normal_labels(labels: Collection[str], named: Sequence[str]) -> set[str]:
    """Returns which labels are normal: those named, in full or by a folder on the way, else good and normal.

    Raises:
        UserError: If there is no label of a given name.
    """
    for name in named:
        if not any(_is(label, (name,)) for label in labels):
            there = ", ".join(sorted(label or "." for label in labels)[:10])
            raise UserError(f"--normal {name}: there is no folder of this name with images; there are {there}")
    return {label for label in labels if _is(label, named or NORMAL)}


def _is(label: str, names: Iterable[str]) -> bool:
    return (label or ".") in names or any(part in names for part in PurePosixPath(label).parts)


def detection(rows: Sequence[Mapping[str, Any]], scores: Sequence[str], normal: Collection[str]) -> Table:
    """Returns the quality of each score, for each abnormal label against the normal images, and for all together.

    Args:
        rows: An image each: `label` and the scores.
        scores: Their names.
        normal: The labels that are normal.

    Returns:
        The table, empty where all images are normal, or none.
    """
    from sklearn.metrics import average_precision_score, roc_auc_score  # 1 s to import

    good = [row for row in rows if row["label"] in normal]
    groups: dict[str, list[Mapping[str, Any]]] = {}
    for row in rows:
        if row["label"] not in normal:
            groups.setdefault(row["label"] or ".", []).append(row)
    if not good or not groups:
        return {}
    if len(groups) > 1:
        groups[OVERALL] = [row for group in groups.values() for row in group]
    table: Table = {}
    for label, group in groups.items():
        truth = [0] * len(good) + [1] * len(group)
        for score in scores:
            values = [row[score] for row in (*good, *group)]
            quality = Quality(float(roc_auc_score(truth, values)), float(average_precision_score(truth, values)))
            table.setdefault(label, {})[score] = quality
    return table


def describe(table: Table) -> str:
    """Returns the table in aligned columns, PCA's figures beside the model's."""
    wide = max(map(len, table))
    names = max(len(score) for qualities in table.values() for score in qualities)
    lines = [f"{'':<{wide}}  {'':<{names}}  AUROC   PCA's  average precision   PCA's"]
    for label, qualities in table.items():
        shown = label
        for score, quality in qualities.items():
            if score.startswith(PCA):
                continue
            linear = qualities.get(PCA + score, (None, None))
            figures = [_figure(value) for value in (*quality, *linear)]
            lines.append(
                f"{shown:<{wide}}  {score:<{names}}  {figures[0]}   {figures[2]}  {figures[1]:>17}   {figures[3]}"
            )
            shown = ""
    return "\n".join(line.rstrip() for line in lines)


def _figure(value: float | None) -> str:
    return "     " if value is None else f"{value:.3f}"
