"""Directions in the space of latents: from the images of one folder to those of another."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from img2img.errors import UserError

Latents = NDArray[np.float64]
"""Latents of images, n×k."""
FOLDS = 5


def mean_direction(start: Latents, end: Latents) -> Latents:
    """Returns the difference of the means of two classes' latents, k numbers."""
    difference: Latents = end.mean(0) - start.mean(0)
    return difference


def classifier_direction(start: Latents, end: Latents) -> Latents:
    """Returns the normal of a linear classifier of two classes' latents, k numbers.

    The classifier is a logistic regression on standardised latents (each has mean 0 and deviation 1), and its normal is
    taken there. The direction is as long as the distance of the class means along it. Unlike the difference of the
    means it leaves alone what is only correlated with the attribute.

    Raises:
        UserError: If the classifier finds no difference.
    """
    latents, labels = _labelled(start, end)
    spread = latents.std(0)
    spread[spread == 0] = 1
    normal = _classifier().fit(latents, labels)[-1].coef_[0]
    length = float(np.linalg.norm(normal))
    if length == 0:
        raise UserError("a linear classifier finds no difference between the latents of the two folders")
    normal = normal / length
    apart = float((mean_direction(start, end) / spread) @ normal)
    along: Latents = spread * normal * apart
    return along


def told_apart(start: Latents, end: Latents) -> float | None:
    """Returns how often the linear classifier is right about latents that it was not fitted to; chance is 0.5.

    Stratified cross-validation with up to five folds, mean over both classes ("balanced accuracy"); None where a class
    has a single image.
    """
    from sklearn.model_selection import StratifiedKFold, cross_val_score

    folds = min(FOLDS, len(start), len(end))
    if folds < 2:
        return None
    splits = StratifiedKFold(folds, shuffle=True, random_state=0)
    scores = cross_val_score(_classifier(), *_labelled(start, end), cv=splits, scoring="balanced_accuracy")
    return float(scores.mean())


def _labelled(start: Latents, end: Latents) -> tuple[Latents, NDArray[np.int64]]:
    """Returns the latents of both classes, and the class of each, 0 or 1."""
    return np.concatenate([start, end]), np.repeat([0, 1], [len(start), len(end)])


def _classifier() -> Any:
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    return make_pipeline(StandardScaler(), LogisticRegression(class_weight="balanced", max_iter=1000))
