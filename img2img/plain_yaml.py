"""Reads YAML of unknown origin: plain data only, and never more than a person would write."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from img2img.errors import UserError

MOST_BYTES = 500_000
MOST_VALUES = 100_000
"""The most values of a file, counted as often as aliases repeat them; a shipped config has about 50."""


def read_yaml(text: str, name: str) -> Any:
    """Returns the plain data of a YAML text.

    Args:
        text: The text.
        name: What the text is, for messages.

    Raises:
        UserError: If it is not YAML, or is nested too deeply, or its aliases repeat more than `MOST_VALUES` values.
    """
    try:
        check_size(text, name)
        return yaml.safe_load(text)
    except (yaml.YAMLError, ValueError) as error:  # ValueError: a number or date that cannot be
        if isinstance(error, UserError):
            raise
        raise UserError(f"{name} is not YAML: {' '.join(str(error).split())}") from error


def check_size(text: str, name: str) -> None:
    """Checks a YAML text before anything follows its aliases, which can stand for billions of values.

    Raises:
        UserError: If it is nested too deeply, or its aliases repeat more than `MOST_VALUES` values.
        yaml.YAMLError: If it is not YAML.
    """
    try:
        if len(text) <= MOST_BYTES and _values(yaml.compose(text, Loader=yaml.SafeLoader), {}) <= MOST_VALUES:
            return
    except RecursionError:
        raise UserError(f"{name} is nested too deeply for a config, or holds itself") from None
    raise UserError(f"{name} holds too much for a config: more than {MOST_VALUES} values, with what its aliases repeat")


def read_yaml_file(path: Path) -> Any:
    """Returns the plain data of a YAML file.

    Raises:
        UserError: As `read_yaml`.
        OSError: If the file cannot be read.
    """
    with path.open("rb") as file:
        content = file.read(MOST_BYTES + 1)  # never more than that, however large the file is
    try:
        return read_yaml(content.decode("utf-8-sig"), str(path))
    except UnicodeDecodeError as error:
        if len(content) > MOST_BYTES:
            raise UserError(f"{path} is too large for a config") from error
        raise UserError(f"{path} is not YAML: it is not text in UTF-8") from error


def _values(node: yaml.Node | None, known: dict[int, int]) -> int:
    """Returns how many values a node stands for; `known` holds those of nodes that were counted before."""
    if not isinstance(node, yaml.CollectionNode):
        return 1
    if id(node) not in known:
        parts = [part for pair in node.value for part in (pair if isinstance(pair, tuple) else (pair,))]
        known[id(node)] = 1 + sum(_values(part, known) for part in parts)  # one that holds itself recurses for ever
    return known[id(node)]
