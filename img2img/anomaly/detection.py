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


class AtThreshold(NamedTuple):
    """How well a stored threshold decides.

    Attributes:
        f1: Harmonic mean of precision and recall; 0 if nothing abnormal is found.
        precision: Fraction of what is called abnormal that is; 0 if nothing is called abnormal.
        recall: Fraction of what is abnormal that is called so.
    """

    f1: float
    precision: float
    recall: float


class Quality(NamedTuple):
    """How well a score, or a map, detects.

    Attributes:
        auroc: Area under the ROC curve: how probably an abnormal image (or pixel) has a higher score than a normal one.
        average_precision: Area under the curve of precision and recall; depends on how many images are abnormal.
        aupro: Of maps, the mean fraction of each defect that is found, over false positive rates up to 0.3; None for
            the scores of images.
        at_threshold: At the threshold that the model has from held-out normal images; None without one.
    """

    auroc: float
    average_precision: float
    aupro: float | None = None
    at_threshold: AtThreshold | None = None


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


def at_threshold(found: float, false: float, abnormal: float) -> AtThreshold:
    """Returns F1, precision and recall.

    Args:
        found: Number of abnormal images (or pixels) above the threshold.
        false: Number of normal ones above it.
        abnormal: Number of abnormal ones; at least one.
    """
    precision = found / (found + false) if found else 0.0
    return AtThreshold(2 * found / (found + false + abnormal), precision, found / abnormal)


def detection(
    rows: Sequence[Mapping[str, Any]],
    scores: Sequence[str],
    normal: Collection[str],
    thresholds: Mapping[str, float] | None = None,
) -> Table:
    """Returns the quality of each score for each abnormal label, against the normal images; empty without either.

    Args:
        rows: For each image its `label` and its scores.
        scores: Names of the scores.
        normal: The labels that are normal.
        thresholds: The threshold of each score that has one; None for no figures at thresholds.
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
            limit, decided = (thresholds or {}).get(score), None
            if limit is not None:
                false, found = (sum(row[score] > limit for row in part) for part in (good, group))
                decided = at_threshold(found, false, len(group))
            ranked = float(roc_auc_score(truth, values)), float(average_precision_score(truth, values))
            table.setdefault(label, {})[score] = Quality(*ranked, at_threshold=decided)
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
