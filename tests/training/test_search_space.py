"""What `--set` means, and what it says when it is wrong."""

from __future__ import annotations

import pytest
import yaml

from img2img.errors import UserError
from img2img.training.search_space import as_flags, search_space

pytest.importorskip("optuna")


def test_kinds():
    texts = ["a=log:1e-4..3e-3", "b=float:-1..1", "c=int:2..8", "d=logint:8..256", "e=choice:L1,[48,96],3"]
    a, b, c, d, e = search_space(texts).values()
    assert (a.low, a.high, a.log, b.low, b.log) == (1e-4, 3e-3, True, -1, False)
    assert (c.low, c.high, c.log, d.high, d.log) == (2, 8, False, 256, True)
    assert e.choices == ("L1", "[48, 96]", "3")


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ("model.lr", "NAME=KIND:VALUES"),
        ("model.lr=1..2", "NAME=KIND:VALUES"),
        ("model.lr=uniform:1..2", "no kind 'uniform'"),
        ("model.lr=log:0..1", "above 0"),
        ("model.lr=log:1", "two numbers"),
        ("model.lr=int:1.5..3", "two whole numbers"),
        ("model.lr=float:3..1", "the smaller one"),
        ("model.lr=float:nan..1", "the smaller one"),
        ("model.lr=float:0..inf", "the smaller one"),
        ("model.loss=choice:", "give the choices"),
        ("model.loss=choice:[a", "--set model.loss"),
    ],
)
def test_wrong_ones_say_what_would_be_right(wrong, said):
    with pytest.raises(UserError, match="(?s)" + said.replace("[", r"\[")):
        search_space([wrong])


def test_nothing_or_twice():
    with pytest.raises(UserError, match="at least one"):
        search_space([])
    with pytest.raises(UserError, match="twice"):
        search_space(["a=int:1..2", "a=int:1..3"])


@pytest.mark.parametrize("value", [1e-05, 0.00123, 5e20, 1.5e-07])
def test_flags_are_numbers_to_yaml(value):
    (flag,) = as_flags({"model.lr": value})
    assert yaml.safe_load(flag.removeprefix("--model.lr=")) == value
