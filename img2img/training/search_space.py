"""The settings that a sweep tries: what `--set NAME=KIND:VALUES` means."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from img2img.errors import UserError
from img2img.plain_yaml import read_yaml

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution

EXAMPLES = "log:1e-4..3e-3, float:0..0.5, int:2..8, logint:8..256 or choice:Charbonnier,L1Loss"


def search_space(settings: Sequence[str]) -> dict[str, BaseDistribution]:
    """Returns what is tried for each option.

    Args:
        settings: Texts such as `model.lr=log:1e-4..3e-3`.

    Raises:
        UserError: If one cannot be read, or an option is given twice.
    """
    space: dict[str, BaseDistribution] = {}
    for setting in settings:
        name, equals, values = setting.partition("=")
        kind, colon, text = values.partition(":")
        if not (name and equals and colon):
            raise UserError(f"--set {setting}: give NAME=KIND:VALUES, such as model.lr={EXAMPLES}")
        if name in space:
            raise UserError(f"--set {name} is given twice")
        space[name] = _distribution(setting, kind, text)
    if not space:
        raise UserError(f"give at least one --set, such as --set model.lr=log:1e-4..3e-3; kinds are {EXAMPLES}")
    return space


def _distribution(setting: str, kind: str, text: str) -> BaseDistribution:
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    if kind == "choice":
        items = read_yaml(f"[{text}]", f"--set {setting}")  # so that a choice may be a list, such as [48,96]
        if not items:
            raise UserError(f"--set {setting}: give the choices, such as choice:Charbonnier,L1Loss")
        return CategoricalDistribution([item if isinstance(item, str) else json.dumps(item) for item in items])
    if kind not in ("log", "float", "int", "logint"):
        raise UserError(f"--set {setting}: there is no kind {kind!r}; the kinds are {EXAMPLES}")
    logarithmic, distribution = kind.startswith("log"), IntDistribution if kind.endswith("int") else FloatDistribution
    number: Any = int if distribution is IntDistribution else float
    low, _, high = text.partition("..")
    try:
        limits = number(low), number(high)
    except ValueError:
        what = "whole numbers" if number is int else "numbers"
        raise UserError(f"--set {setting}: give two {what}, such as {kind}:2..8") from None
    if not (0 if logarithmic else -math.inf) < limits[0] < limits[1] < math.inf:
        above = ", and above 0" if logarithmic else ""
        raise UserError(f"--set {setting}: the first number must be the smaller one{above}")
    return distribution(*limits, log=logarithmic)


def as_flags(values: dict[str, Any]) -> list[str]:
    """Returns values that were chosen as flags of `img2img fit`."""
    return [f"--{name}={_text(value)}" for name, value in values.items()]


def _text(value: Any) -> str:
    text = str(value)
    mantissa, e, exponent = text.partition("e")
    # YAML reads 1e-05 as a word, and 1.0e-05 as a number.
    return f"{mantissa}.0e{exponent}" if isinstance(value, float) and e and "." not in mantissa else text
