"""The table of how well scores detect, as people read it: in the terminal and in a report."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from img2img.anomaly.detection import PCA, Quality, Table

FIGURES: dict[str, Callable[[Quality], float | None]] = {
    "AUROC": lambda quality: quality.auroc,
    "AP": lambda quality: quality.average_precision,
    "AUPRO": lambda quality: quality.aupro,
    "F1": lambda quality: quality.at_threshold and quality.at_threshold.f1,
    "precision": lambda quality: quality.at_threshold and quality.at_threshold.precision,
    "recall": lambda quality: quality.at_threshold and quality.at_threshold.recall,
}
"""Columns of the table."""
COMPARED = ("AUROC", "AP", "AUPRO", "F1")
"""Those with PCA's figures beside them."""
TEXTS = 2
"""Columns before the figures: the label, and the name of the score."""


def table_columns(table: Table, names: Sequence[str]) -> list[list[str]]:
    """Returns the columns of the table, each a head and a cell for each row; without figures that no row has.

    PCA's figures stand beside the model's. A label stands in the first of its rows only.

    Args:
        table: The quality of the scores for each label.
        names: The scores to show, in this order; those that the table lacks are left out.
    """
    rows = [(label, name) for label, qualities in table.items() for name in names if name in qualities]
    own = [table[label][name] for label, name in rows]
    linear = [table[label].get(PCA + name) for label, name in rows]
    shown = ["" if i and rows[i - 1][0] == label else label for i, (label, _) in enumerate(rows)]
    figures = []
    for head, figure in FIGURES.items():
        figures.append([head, *(_written(figure, quality) for quality in own)])
        if head in COMPARED:
            figures.append(["PCA's", *(_written(figure, quality) for quality in linear)])
    texts = [["", *shown], ["", *(name for _, name in rows)]]
    return texts + [column for column in figures if any(column[1:])]


def _written(figure: Callable[[Quality], float | None], quality: Quality | None) -> str:
    value = None if quality is None else figure(quality)
    return "" if value is None else f"{value:.3f}"
