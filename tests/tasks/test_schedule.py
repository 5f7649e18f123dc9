"""The learning rate's course."""

from itertools import pairwise

import pytest

from img2img.tasks.schedule import warmup_stable_decay


def test_it_rises_stays_and_falls_when_told():
    rate = [warmup_stable_decay(step, 4, 100, 10, 0.01) for step in range(120)]
    assert rate[:4] == pytest.approx([0.2, 0.4, 0.6, 0.8])
    assert rate[4:101] == [1.0] * 97
    assert all(later < earlier for earlier, later in pairwise(rate[100:111]))
    assert rate[110:] == pytest.approx([0.01] * 10)


def test_without_an_end_it_stays():
    assert warmup_stable_decay(10**9, 4, None, 0, 0.01) == 1.0
