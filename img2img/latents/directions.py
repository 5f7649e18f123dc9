"""Directions in the space of latents: from the images of one folder to those of another."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from img2img.errors import UserError

Codes = NDArray[np.float64]
"""Latents of images, n×k."""
FOLDS = 5


def mean_direction(start: Codes, end: Codes) -> Codes:
    """Returns the difference of the means of two classes' codes, k numbers."""
    difference: Codes = end.mean(0) - start.mean(0)
    return difference


def classifier_direction(start: Codes, end: Codes) -> Codes:
    """Returns the normal of a linear classifier of two classes' codes, k numbers.

    The classifier is a logistic regression on standardised codes (each latent has mean 0 and deviation 1), where the
    normal is taken, too. It is as long as the class means are apart along it. Unlike the difference of the means it
    leaves alone what merely goes along with the attribute.

    Raises:
        UserError: If the classifier finds nothing that tells them apart.
    """
    codes = np.concatenate([start, end])
    spread = codes.std(0)
    spread[spread == 0] = 1
    fit = _classifier().fit(codes, _labels(start, end))
    normal = fit[-1].coef_[0]
    length = float(np.linalg.norm(normal))
    if length == 0:
        raise UserError("a linear classifier finds nothing in the codes that tells the two folders apart")
    normal = normal / length
    apart = float(((end.mean(0) - start.mean(0)) / spread) @ normal)
    along: Codes = spread * normal * apart
    return along


def told_apart(start: Codes, end: Codes) -> float | None:
    """Returns how often the linear classifier is right about codes that it was not fitted to; chance is 0.5.

    Stratified cross-validation with up to five folds, mean over both classes ("balanced accuracy"); None where a class
    has a single image.
    """
    from sklearn.model_selection import StratifiedKFold, cross_val_score

    folds = min(FOLDS, len(start), len(end))
    if folds < 2:
        return None
    scores = cross_val_score(
        _classifier(),
        np.concatenate([start, end]),
        _labels(start, end),
        cv=StratifiedKFold(folds, shuffle=True, random_state=0),
        scoring="balanced_accuracy",
    )
    return float(scores.mean())


def _labels(start: Codes, end: Codes) -> NDArray[np.int64]:
    return np.repeat([0, 1], [len(start), len(end)])


def _classifier() -> Any:
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    return make_pipeline(StandardScaler(), LogisticRegression(class_weight="balanced", max_iter=1000))
