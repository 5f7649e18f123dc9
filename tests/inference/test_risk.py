"""Which results to look at first."""

import statistics

import numpy as np
import pytest

from img2img.inference.journal import Record
from img2img.inference.risk import _medians_of_others, look_first, risks_of

USUAL = {"change": 0.05, "noise": 0.05, "clipped": 0.0, "spread": 0.2, "spread_before": 0.2}


def run_of(**odd: dict[str, float]) -> list[Record]:
    """A run of ten usual images and some odd ones."""
    usual = {f"{n}.png": USUAL for n in range(10)}
    found = usual | {f"{name}.png": USUAL | measures for name, measures in odd.items()}
    return [Record(name, f"in/{name}", "restored", measures=measures) for name, measures in found.items()]


def test_usual_images_are_not_worth_a_look():
    risks = risks_of(run_of())
    assert len(risks) == 10
    assert look_first(risks) == {}


def test_the_riskiest_come_first_each_with_its_reason():
    found = look_first(
        risks_of(
            run_of(
                black={"clipped": 0.05},
                gone={"spread": 0.001, "change": 0.2},
                changed={"change": 0.3},
                blank={"spread": 0.001, "spread_before": 0.001, "noise": 0.0, "change": 0.0},
                invented={"hole": 0.61},
            )
        )
    )
    assert list(found) == ["gone.png", "black.png", "changed.png", "invented.png", "blank.png"]
    reasons = {name: risk.reasons for name, risk in found.items()}
    assert reasons["gone.png"][0] == (
        "nearly empty: its values vary by 0.3 of 255 levels, those of the input by 51.0 of 255 levels"
    )
    assert reasons["gone.png"][1].startswith("changed by 51.0 of 255 levels (RMS), 4.0 times what its noise explains")
    assert reasons["black.png"] == ("5.0% of its values became black or white, further than noise explains",)
    assert reasons["changed.png"] == ("changed by 76.5 of 255 levels (RMS), 6.0 times what its noise explains",)
    assert reasons["invented.png"] == ("61% of it was filled",)
    assert reasons["blank.png"] == ("nearly empty: its values vary by 0.3 of 255 levels only",)


def test_a_model_that_changes_everything_much_is_compared_with_itself():
    records = run_of(odd={"change": 1.2 * 0.05})
    strong = [Record(r.name, r.source, r.status, measures=r.measures | {"change": 8 * r.measures["change"]})
              for r in records]  # fmt: skip
    assert look_first(risks_of(strong)) == {}
    alone = risks_of(strong[:1])
    assert look_first(alone)["0.png"].reasons == (
        "changed by 102.0 of 255 levels (RMS), 8.0 times what its noise explains",
    )


def test_what_the_model_says_of_itself():
    sure = [Record(r.name, r.source, r.status, measures=r.measures | {"sigma": 0.01}) for r in run_of()]
    unsure = Record("unsure.png", "in", "restored", measures=USUAL | {"sigma": 0.05, "change": 0.1})
    found = look_first(risks_of([*sure, unsure]))
    assert list(found) == ["unsure.png"]
    assert found["unsure.png"].reasons == (
        "the model is unsure: it expects errors of 12.8 of 255 levels (σ), usual in this run is 2.6 of 255 levels",
    ), "the change lies within what it expects"


def test_failed_and_skipped_files_and_those_of_earlier_versions_have_no_risk():
    assert risks_of([Record("a", "a", "failed"), Record("b", "b", "skipped"), Record("c", "c", "restored")]) == {}


@pytest.mark.parametrize("count", [2, 3, 4, 5, 8, 9])
def test_the_median_of_the_others(count):
    values = {str(n): float(value) for n, value in enumerate(np.random.default_rng(count).integers(0, 6, count))}
    for name, median in _medians_of_others(values).items():
        assert median == statistics.median([value for other, value in values.items() if other != name])
