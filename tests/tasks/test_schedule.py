"""The learning rate's course."""

import pytest

from img2img.tasks.schedule import warmup_stable_decay


def test_it_rises_stays_and_falls_when_told():
    rate = [warmup_stable_decay(step, 4, 100, 10, 0.01) for step in range(120)]
    assert rate[:4] == pytest.approx([0.2, 0.4, 0.6, 0.8])
    assert rate[4:101] == [1.0] * 97
    assert all(later < earlier for earlier, later in zip(rate[100:110], rate[101:111], strict=True))
    assert rate[110:] == pytest.approx([0.01] * 10)


def test_without_an_end_it_stays():
    assert warmup_stable_decay(10**9, 4, None, 0, 0.01) == 1.0
