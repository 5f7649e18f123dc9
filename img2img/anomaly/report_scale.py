"""The histograms of a report: a strip for each group of images, all on one scale with the threshold across them."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from img2img.inference.page import as_number, as_text

BINS = 60
STEPS = 1000  # of the scale, from its left to its right
HEIGHT = 100  # of a strip, in units of its own
MOST_STRIPS = 12
"""Labels beyond these share a strip; the largest ones have their own."""
NARROW = 0.05
"""The scale is logarithmic if the threshold would be so near to its left end, as a fraction of the scale."""
OTHERS = "other labels"
KINDS = ("held", "seen", "normal", "abnormal", "unknown")
"""Kinds of groups, in the order of the strips."""
Values = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Group:
    """Images that belong together.

    Attributes:
        name: What they are called.
        kind: `held` for held-out normal images, `seen` for images that were trained on, else `normal` or `abnormal` by
            their label, `unknown` without one.
        values: Their scores, in ascending order, all finite.
    """

    name: str
    kind: str
    values: Values


def groups_of(rows: Sequence[Mapping[str, Any]], score: str, normal: Collection[str], held_out: Values) -> list[Group]:
    """Returns the held-out images and those of each label, the normal labels first.

    Args:
        rows: The scored images, each with its `label`, its scores, and whether it was `trained_on`.
        score: The score that decides.
        normal: Labels of normal images; if it is empty, nothing is known, and all images are one group.
        held_out: Scores of held-out normal images.
    """
    found: dict[tuple[str, str], list[float]] = {}
    for row in rows:
        kind = "unknown" if not normal else "normal" if row["label"] in normal else "abnormal"
        kind = "seen" if row["trained_on"] else kind
        name = {"unknown": "scored", "seen": "trained on"}.get(kind, row["label"] or ".")
        found.setdefault((kind, name), []).append(row[score])
    largest = sorted(found, key=lambda key: -len(found[key]))
    for kind, name in largest[MOST_STRIPS:]:
        found.setdefault((kind, OTHERS), []).extend(found.pop((kind, name)))
    ordered = sorted(found, key=lambda key: (KINDS.index(key[0]), key[1] == OTHERS, key[1]))
    return [
        Group("held-out normal", "held", _finite(held_out)),
        *(Group(name, kind, _finite(np.array(found[kind, name]))) for kind, name in ordered),
    ]


def _finite(values: Values) -> Values:
    return np.sort(values[np.isfinite(values)].astype(np.float64))


@dataclass(frozen=True)
class Scale:
    """Where a score lies between the left and the right of the histograms.

    Attributes:
        low: The score at the left.
        high: The score at the right; higher ones are drawn there.
        logarithmic: Whether equal ratios take equal space.
    """

    low: float
    high: float
    logarithmic: bool

    @classmethod
    def of(cls, groups: Sequence[Group], threshold: float) -> Scale:
        """Returns the scale of all groups' scores and the threshold; one in two hundred lies beyond its end."""
        values = np.concatenate([group.values for group in groups] + [np.array([threshold])])
        low, high = float(values.min()), max(float(np.quantile(values, 0.995)), threshold)
        margin = (high - low) * 0.02 or abs(threshold) * 0.1 or 1.0
        if low > 0 and threshold - low < NARROW * (high - low):
            return cls(low / 1.1, high * 1.1, True)
        return cls(max(0.0, low - margin) if low >= 0 else low - margin, high + margin, False)

    def __call__(self, values: Values) -> Values:
        """Returns places from 0 to `STEPS`."""
        low, high = (np.log(end) if self.logarithmic else end for end in (self.low, self.high))
        inner = np.log(np.maximum(values, self.low)) if self.logarithmic else values
        return np.asarray(np.clip((inner - low) / (high - low), 0, 1) * STEPS)


def draw_scale(groups: Sequence[Group], threshold: float) -> str:
    """Returns the strips and what is below them, as the content of an element with the class `scale`.

    Each strip is as high as its own largest bin. It keeps its scores for the page's script, which counts again when the
    threshold moves.
    """
    scale = Scale.of(groups, threshold)
    at = float(scale(np.array([threshold]))[0])
    middle = "logarithmic" if scale.logarithmic else ""
    ends = "".join(f"<span>{text}</span>" for text in (as_number(scale.low), middle, as_number(scale.high)))
    attributes = {"low": scale.low, "high": scale.high, "logarithmic": int(scale.logarithmic), "threshold": threshold}
    data = " ".join(f'data-{name}="{value!r}"' for name, value in attributes.items())
    return (
        f'<div class="strips" {data}>{"".join(_strip(group, scale, threshold, at) for group in groups)}'
        f'<div class="axis"><input id="threshold" type="range" min="0" max="{STEPS}" value="{round(at)}" step="1" '
        f'aria-label="Threshold"><div class="ends">{ends}</div></div></div>'
    )


def _strip(group: Group, scale: Scale, threshold: float, at: float) -> str:
    counts, edges = np.histogram(scale(group.values), BINS, (0, STEPS))
    tops = counts / max(1, counts.max()) * HEIGHT
    bars = "".join(
        f"M{left:.0f} {HEIGHT}V{HEIGHT - top:.0f}H{right:.0f}V{HEIGHT}z"
        for top, left, right in zip(tops, edges[:-1], edges[1:], strict=True)
        if top
    )
    above = int((group.values > threshold).sum())
    values = ",".join(map(repr, group.values.tolist()))  # exact, as one of them may be the threshold
    return (
        f'<div class="strip {group.kind}" data-values="[{values}]"><span class="who"><bdi>{as_text(group.name)}</bdi>'
        f'</span><svg viewBox="0 0 {STEPS} {HEIGHT}" preserveAspectRatio="none" aria-hidden="true">'
        f'<path d="{bars}"/><line x1="{at:.1f}" x2="{at:.1f}" y1="0" y2="{HEIGHT}"/></svg>'
        f'<span class="above"><b>{above:,}</b> of {len(group.values):,} above</span></div>'
    )
