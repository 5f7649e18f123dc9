"""How well scores tell normal images from abnormal ones, where folders say which is which."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from pathlib import PurePosixPath
from typing import Any, NamedTuple

from img2img.errors import UserError

NORMAL = ("good", "normal")
"""Folders whose images are normal unless the user names others."""
OVERALL = "all abnormal"
PIXELS = "pixels"
PCA = "pca_"
"""Prefix of the names of PCA's scores and maps."""


class Quality(NamedTuple):
    """How well a score detects, whatever the threshold.

    Attributes:
        auroc: Area under the ROC curve: how probably an abnormal image has a higher score than a normal one.
        precision: Average precision; depends on how many of the images are abnormal. None for pixels.
    """

    auroc: float
    precision: float | None


Table = dict[str, dict[str, Quality]]
"""For each abnormal label, and for all together, the quality of each score."""


class Verdicts(NamedTuple):
    """How often the threshold of the recommended score is right, by the labels.

    Attributes:
        normal: Number of normal images.
        false_alarms: Number of these that are above the threshold.
        abnormal: Number of abnormal images.
        misses: Number of these that are not above the threshold.
    """

    normal: int
    false_alarms: int
    abnormal: int
    misses: int


def normal_labels(labels: Collection[str], named: Sequence[str]) -> set[str]:
    """Returns which labels are normal.

    Args:
        labels: Folders relative to the root; empty for the root itself.
        named: Labels that the user calls normal, in full or by one folder on their path (`.` is the root); empty for
            `NORMAL`.

    Raises:
        UserError: If no label has one of these names.
    """
    for name in named:
        if not any(_is(label, (name,)) for label in labels):
            there = ", ".join(sorted(label or "." for label in labels)[:10])
            raise UserError(f"--normal {name}: there is no folder of this name with images; there are {there}")
    return {label for label in labels if _is(label, named or NORMAL)}


def _is(label: str, names: Sequence[str]) -> bool:
    return (label or ".") in names or any(part in names for part in PurePosixPath(label).parts)


def detection(rows: Sequence[Mapping[str, Any]], scores: Sequence[str], normal: Collection[str]) -> Table:
    """Returns the quality of each score for each abnormal label, against the normal images; empty without either.

    Each image has a row with its `label` and scores; `normal` are the labels that are normal.
    """
    from sklearn.metrics import average_precision_score, roc_auc_score  # 1 s to import

    good = [row for row in rows if row["label"] in normal]
    groups: dict[str, list[Mapping[str, Any]]] = {}
    for row in rows:
        if row["label"] not in normal:
            groups.setdefault(row["label"] or ".", []).append(row)
    if not good:
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


def verdicts(rows: Sequence[Mapping[str, Any]], normal: Collection[str]) -> Verdicts | None:
    """Returns how often the threshold is wrong; None where no label is normal, because any image may be normal then.

    Each image has a row with its `label` and the verdict, `abnormal`; `normal` are the labels that are normal.
    """
    on_normal = [row["abnormal"] for row in rows if row["label"] in normal]
    on_abnormal = [row["abnormal"] for row in rows if row["label"] not in normal]
    if not on_normal:
        return None
    return Verdicts(len(on_normal), sum(on_normal), len(on_abnormal), len(on_abnormal) - sum(on_abnormal))
