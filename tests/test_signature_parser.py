"""Command lines made of signatures: what is required, what is a switch, how errors read."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import pytest

from img2img.signature_parser import parser_of


class Devices:
    """Where to compute.

    Args:
        devices: How many.
    """

    def __init__(self, devices: int | str = "auto") -> None:
        self.devices = devices


def enlarge(
    input: str,
    output: str,
    model: str,
    start: str,
    draw: Literal["mean", "sample"] = "mean",
    times: int = 2,
    strength: float | None = None,
    skip_existing: bool = False,
    trust: Sequence[str] = (),
    progress: bool = False,
    **devices: Any,
) -> None:
    """Enlarges images.

    Args:
        input: Folder with images.
        output: Folder that gets
            larger ones.
        model: Checkpoint.
        start: Where to start.
        draw: What to draw.
        times: How many times, 100 % of them.
        strength: How strongly.
        skip_existing: Leave outputs that are there.
        trust: Further package.
        progress: Whether to show a bar.
        devices: See `Devices`.
    """


@pytest.fixture
def parser():
    return parser_of(enlarge, "enlarge", names={"start": "from"}, shared=[Devices])


def test_defaults_are_the_functions(parser):
    assert vars(parser.parse_args(["in", "out", "--model", "m", "--from", "a"])) == {
        "input": "in",
        "output": "out",
        "model": "m",
        "start": "a",
        "draw": "mean",
        "times": 2,
        "strength": None,
        "skip_existing": False,
        "trust": [],
        "progress": True,
        "devices": "auto",
    }


def test_types_are_those_of_the_signature(parser):
    flags = ["--draw", "sample", "--times", "3", "--strength", "0.5", "--skip-existing", "--trust=a", "--trust", "b"]
    found = parser.parse_args(["in", "out", "--model=m", "--from=a", *flags, "--devices", "2"])
    assert (found.draw, found.times, found.strength, found.skip_existing) == ("sample", 3, 0.5, True)
    assert (found.trust, found.devices) == (["a", "b"], 2)


def test_a_positional_sequence_takes_one_or_more_wherever_options_stand():
    def copy(input: Sequence[str], output: str, model: str) -> None:
        """Copies."""

    several = parser_of(copy, "copy")
    assert several.parse_args(["a", "out", "--model=m"]).input == ["a"]
    found = several.parse_intermixed_args(["a", "b", "--model", "m", "c", "out"])
    assert (found.input, found.output) == (["a", "b", "c"], "out")


def test_values_keep_their_hyphens(parser):
    assert parser.parse_args(["my-in", "out", "--model=a-b--c", "--from", "x-y"]).model == "a-b--c"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["in"], "required: output, --model, --from"),
        (["in", "out", "--model=m", "--from=a", "--times=many"], "argument --times: invalid int value: 'many'"),
        (["in", "out", "--model=m", "--from=a", "--draw=best"], "invalid choice: 'best'"),
        (["in", "out", "--model=m", "--from=a", "--colour"], "unrecognized arguments: --colour"),
    ],
)
def test_errors_are_one_line(parser, arguments, said, capsys):
    with pytest.raises(SystemExit) as stop:
        parser.parse_args(arguments)
    assert stop.value.code == 2
    shown = capsys.readouterr().err.strip()
    assert said in shown
    assert "\n" not in shown


def test_help_is_the_docstrings(parser, capsys):
    with pytest.raises(SystemExit):
        parser.parse_args(["--help"])
    shown = " ".join(capsys.readouterr().out.split())
    assert "Enlarges images." in shown
    assert "Folder that gets larger ones." in shown
    assert "How many times, 100 % of them." in shown
    assert "progress" not in shown
