"""Contracts come back as they were, and damaged ones are refused in one line."""

from __future__ import annotations

import json

import pytest

from img2img.errors import UserError
from img2img.exporting.contract import read_contract
from img2img.exporting.core import contract_of
from tests.exporting.models import denoiser


def test_a_contract_comes_back():
    contract = contract_of(denoiser(), "float32")
    assert read_contract(contract.to_json(), "a.onnx") == contract


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("multiple", 0),
        ("stride", 2.5),
        ("halo", -1),
        ("halo", "wide"),
        ("scale", 1 << 40),
        ("input_channels", ["a", "b"]),
        ("output_channels", []),
        ("bytes_per_pixel", 0),
        ("range", [0]),
        ("size", [3]),
        ("thresholds", [1]),
    ],
)
def test_a_damaged_contract_is_refused(key, value):
    text = json.dumps(json.loads(contract_of(denoiser(), "float32").to_json()) | {key: value})
    with pytest.raises(UserError, match=r"^a\.onnx is damaged: its contract cannot be read \(.+\)$"):
        read_contract(text, "a.onnx")


def test_other_files_are_refused():
    with pytest.raises(UserError, match="holds no contract"):
        read_contract(None, "a.onnx")
    with pytest.raises(UserError, match="cannot be read"):
        read_contract("[" * 100_000, "a.onnx")
    newer = json.dumps({"format": 2})
    with pytest.raises(UserError, match="was exported by a newer img2img"):
        read_contract(newer, "a.onnx")
