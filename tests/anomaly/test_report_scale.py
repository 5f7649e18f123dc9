import json
import re

import numpy as np
import pytest

from img2img.anomaly.report_scale import MOST_STRIPS, OTHERS, Group, Scale, draw_scale, groups_of


def row(label: str, score: float, trained_on: bool = False) -> dict[str, object]:
    return {"label": label, "s": score, "trained_on": trained_on}


def test_groups_are_held_out_then_trained_on_then_normal_then_abnormal():
    rows = [row("b", 3), row("b", 1), row("a", 2), row("good", 1), row("", 4), row("good", 9, True)]
    found = groups_of(rows, "s", {"good"}, np.array([2.0, 1.0]))
    assert [(group.name, group.kind, group.values.tolist()) for group in found] == [
        ("held-out normal", "held", [1, 2]),
        ("trained on", "seen", [9]),
        ("good", "normal", [1]),
        (".", "abnormal", [4]),
        ("a", "abnormal", [2]),
        ("b", "abnormal", [1, 3]),
    ]
    assert [group.kind for group in groups_of(rows[:4], "s", set(), np.ones(1))] == ["held", "unknown"]


def test_small_labels_share_a_strip_and_no_image_is_lost():
    rows = [row(f"label{n:02}", 1.0) for n in range(30) for _ in range(30 - n)] + [row("good", float("nan"))]
    found = groups_of(rows, "s", {"good"}, np.ones(3))
    assert len(found) <= MOST_STRIPS + 3
    assert found[-1].name == OTHERS
    assert sum(len(group.values) for group in found[1:]) == 30 * 31 // 2, "but no value that is not a number"
    assert len(found[2].values) == 30


def test_the_scale_is_logarithmic_where_the_threshold_would_be_at_the_end():
    near = [Group("n", "held", np.array([0.001, 0.01])), Group("a", "abnormal", np.linspace(0.1, 0.99, 50))]
    scale = Scale.of(near, 0.012)
    assert scale.logarithmic
    places = scale(np.array([0.001, 0.012, 0.1, 0.9]))
    assert (np.diff(places) > 150).all(), "spread over the scale"
    plain = Scale.of([Group("n", "held", np.array([1.0, 2.0])), Group("a", "abnormal", np.array([2.0, 3.0]))], 2.0)
    assert not plain.logarithmic
    assert plain(np.array([2.0])) == pytest.approx(500, abs=10)


@pytest.mark.parametrize("values", [[0.0, 0.0], [-3.0, -1.0], [5.0], [0.0, 1e30]])
def test_odd_scores_have_a_finite_scale(values):
    scale = Scale.of([Group("n", "held", np.array(values))], values[0])
    places = scale(np.array([*values, 1e40, -1e40]))
    assert np.isfinite(places).all()
    assert places.min() >= 0
    assert places.max() <= 1000


def test_one_image_far_away_does_not_squeeze_the_others():
    many = Group("n", "unknown", np.sort(np.append(np.linspace(1, 2, 1000), 1e6)))
    scale = Scale.of([many], 1.5)
    assert scale.high < 3
    assert scale(np.array([1e6])) == 1000


def test_strips_count_and_keep_the_scores_to_the_last_digit():
    values = np.sort(np.random.default_rng(0).random(50).astype(np.float32).astype(np.float64))
    threshold = float(values[30])
    drawn = draw_scale([Group("<n>", "held", values)], threshold)
    assert json.loads(re.search(r'data-values="([^"]*)"', drawn)[1]) == values.tolist()
    assert "<b>19</b> of 50 above" in drawn, "the threshold itself is not above"
    assert float(re.search(r'data-threshold="([^"]*)"', drawn)[1]) == threshold
    assert "&lt;n&gt;" in drawn
