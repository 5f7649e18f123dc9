"""Which results of a run to look at first, and why: computed from what was measured of each file."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from img2img.inference.journal import Record

LEVELS = 255
"""Messages give values in levels of 8 bits, whatever the depth of the file."""
LEAST_NOISE = 1 / LEVELS
"""Rounding alone changes values by about this much; a smaller estimate of the noise explains no less."""
TOO_MUCH = 2.0
"""How many times the expected change, or the run's usual σ, is worth a look."""
CLIPPED = 0.01
"""Share of values that became black or white that is worth a look."""
EMPTY = 1.5 / LEVELS
"""Standard deviation below which an image is nearly empty."""
MOST_FILLED = 0.5
"""Share of invented pixels that is worth a look."""
UNSURE = 2 / LEVELS
"""Mean σ below which the model counts as sure, however sure it is of the other images."""


@dataclass(frozen=True)
class Risk:
    """Why a result may be wrong.

    Attributes:
        value: How far the most striking measure is beyond its threshold; from 1 on, the result is worth a look.
        reasons: What is striking, in words, the most striking first; empty below 1.
    """

    value: float
    reasons: tuple[str, ...]


def risks_of(records: Iterable[Record]) -> dict[str, Risk]:
    """Returns the risk of each restored file by name, the highest first.

    Each file is compared with the median of the run's other files, because a model that colourises or sharpens changes
    more than noise explains in all of them.
    """
    measured = {record.name: record.measures for record in records if record.status == "restored" and record.measures}
    excess = {name: _excess(measures) for name, measures in measured.items() if _shows_change(measures)}
    sigma = {name: measures["sigma"] for name, measures in measured.items() if "sigma" in measures}
    usual_excess, usual_sigma = _medians_of_others(excess), _medians_of_others(sigma)
    risks = {}
    for name, measures in measured.items():
        found = [*_own_reasons(measures)]
        if name in excess:
            found.append(_change(measures, excess[name], max(1.0, usual_excess.get(name, 1.0))))
        if name in usual_sigma:
            found.append(_unsure(sigma[name], usual_sigma[name]))
        found.sort(key=lambda each: -each[0])
        worst = max((value for value, _ in found), default=0.0)
        risks[name] = Risk(round(worst, 3), tuple(reason for value, reason in found if value >= 1))
    return dict(sorted(risks.items(), key=lambda each: (-each[1].value, each[0])))


def look_first(risks: Mapping[str, Risk]) -> dict[str, Risk]:
    """Returns those that are worth a look, the highest risk first."""
    return {name: risk for name, risk in risks.items() if risk.reasons}


def _shows_change(measures: Mapping[str, float]) -> bool:
    """Returns whether the change can be compared with noise: what is in holes is meant to change."""
    return {"change", "noise"} <= measures.keys() and "hole" not in measures


def _excess(measures: Mapping[str, float]) -> float:
    """Returns how many times larger the change is than the noise, and the error that the model expects, explain."""
    return measures["change"] / _explained(measures)


def _explained(measures: Mapping[str, float]) -> float:
    return float((max(measures["noise"], LEAST_NOISE) ** 2 + measures.get("sigma", 0.0) ** 2) ** 0.5)


def _medians_of_others(values: Mapping[str, float]) -> dict[str, float]:
    """Returns for each name the median of the other names' values; nothing for a single name."""
    if len(values) < 2:
        return {}
    ordered = sorted(values.values())
    return {name: _median_without(ordered, value) for name, value in values.items()}


def _median_without(ordered: Sequence[float], value: float) -> float:
    # Taking one value away moves the middle by half a place, so there is no need to sort again.
    middle = (len(ordered) - 1) // 2
    if len(ordered) % 2 == 0:
        return ordered[middle + 1] if value <= ordered[middle] else ordered[middle]
    near = ordered[max(0, middle - 1) : middle + 2]
    if value < ordered[middle]:
        return statistics.fmean(near[-2:])
    return statistics.fmean(near[:2]) if value > ordered[middle] else (near[0] + near[-1]) / 2


def _change(measures: Mapping[str, float], excess: float, usual: float) -> tuple[float, str]:
    model = ", and the error that the model expects," if "sigma" in measures else ""
    reason = f"changed by {_levels(measures['change'])} (RMS), {excess:.1f} times what its noise{model} explains"
    if usual > 1:
        reason += f"; usual in this run is {usual:.1f} times"
    return excess / usual / TOO_MUCH, reason


def _unsure(sigma: float, usual: float) -> tuple[float, str]:
    reason = f"the model is unsure: it expects errors of {_levels(sigma)} (σ), usual in this run is {_levels(usual)}"
    return sigma / max(usual, UNSURE) / TOO_MUCH, reason


def _own_reasons(measures: Mapping[str, float]) -> Iterator[tuple[float, str]]:
    """Yields what is striking about a file by itself, with how far it is beyond its threshold."""
    clipped = measures.get("clipped", 0.0)
    yield clipped / CLIPPED, f"{clipped:.1%} of its values became black or white, further than noise explains"
    spread, before = measures.get("spread", 1.0), measures.get("spread_before", 1.0)
    if spread < EMPTY:
        lost = before >= 2 * EMPTY
        reason = f"nearly empty: its values vary by {_levels(spread)}"
        yield 10.0 if lost else 1.0, f"{reason}, those of the input by {_levels(before)}" if lost else f"{reason} only"
    hole = measures.get("hole", 0.0)
    yield hole / MOST_FILLED, f"{hole:.0%} of it was filled"


def _levels(value: float) -> str:
    return f"{value * LEVELS:.1f} of {LEVELS} levels"
