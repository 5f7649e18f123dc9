import pytest

from img2img.anomaly.detection import OVERALL, at_threshold, detection, normal_labels, verdicts
from img2img.errors import UserError

ROWS = [
    {"label": "good", "score": 1.0, "abnormal": False},
    {"label": "good", "score": 3.0, "abnormal": True},
    {"label": "hole", "score": 2.0, "abnormal": False},
    {"label": "hole", "score": 4.0, "abnormal": True},
    {"label": "", "score": 5.0, "abnormal": True},
]


def test_labels_are_normal_by_name_or_by_a_folder_on_their_path():
    labels = ["", "good", "monday/good", "hole", "monday/hole"]
    assert normal_labels(labels, []) == {"good", "monday/good"}
    assert normal_labels(labels, ["monday"]) == {"monday/good", "monday/hole"}
    assert normal_labels(labels, ["monday/hole", "."]) == {"monday/hole", ""}
    with pytest.raises(
        UserError, match=r"--normal fine: there is no folder of this name with images; there are \., good"
    ):
        normal_labels(labels, ["fine"])


def test_each_label_is_compared_with_the_normal_images_and_all_together():
    table = detection(ROWS, ["score"], {"good"})
    assert list(table) == ["hole", ".", OVERALL]
    assert table["hole"]["score"].auroc == 0.75
    assert table["."]["score"].auroc == 1
    assert table[OVERALL]["score"].auroc == pytest.approx(5 / 6)
    assert table["hole"]["score"].at_threshold is None
    assert table["hole"]["score"].aupro is None
    assert detection(ROWS, ["score"], set()) == {}
    assert detection(ROWS[:2], ["score"], {"good"}) == {}


def test_f1_precision_and_recall_are_those_of_the_stored_threshold():
    table = detection(ROWS, ["score"], {"good"}, {"score": 2.0})
    assert table["hole"]["score"].at_threshold == (0.5, 0.5, 0.5)
    assert table["."]["score"].at_threshold == (pytest.approx(2 / 3), 0.5, 1)
    assert table[OVERALL]["score"].at_threshold == pytest.approx((2 / 3, 2 / 3, 2 / 3))
    assert detection(ROWS, ["score"], {"good"}, {"score": 5.0})["hole"]["score"].at_threshold == (0, 0, 0)
    assert at_threshold(3, 1, 4) == (0.75, 0.75, 0.75)


def test_false_alarms_and_misses_are_counted_where_labels_say_what_is_normal():
    found = verdicts(ROWS, {"good"})
    assert (found.normal, found.false_alarms, found.abnormal, found.misses) == (2, 1, 3, 1)
    assert verdicts(ROWS[:2], {"good"}) == (2, 1, 0, 0)
    assert verdicts(ROWS, set()) is None
