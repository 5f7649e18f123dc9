"""Matches the files of two folders by name, whatever their extensions."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import PurePosixPath

MAX_NAMED = 10  # files named in a message


@dataclass
class Matches:
    """The result of matching two lists of relative paths, left and right."""

    left: list[str]  # without a match on the right
    right: list[str]  # without a match on the left
    pairs: dict[str, str] = field(default_factory=dict)  # left → right
    # Paths that differ only in the extension, with more than one on a side: (left, right)
    ambiguous: list[tuple[list[str], list[str]]] = field(default_factory=list)


def match_names(left: Iterable[str], right: Iterable[str]) -> Matches:
    """Matches relative paths: first identical ones, then whatever the extension's case, then whatever the extension."""
    matches = Matches(sorted(left), sorted(right))
    for key in (str, _lowercase_extension, without_extension):
        rights = _grouped(matches.right, key)
        for name, ours in _grouped(matches.left, key).items():
            theirs = rights.get(name, [])
            if len(ours) == len(theirs) == 1:
                matches.pairs[ours[0]] = theirs[0]
            elif theirs and key is without_extension:
                matches.ambiguous.append((ours, theirs))
        taken = {*matches.pairs, *(name for ours, _ in matches.ambiguous for name in ours)}
        matches.left = [name for name in matches.left if name not in taken]
        taken = {*matches.pairs.values(), *(name for _, theirs in matches.ambiguous for name in theirs)}
        matches.right = [name for name in matches.right if name not in taken]
    return matches


def without_extension(name: str) -> str:
    """Returns a relative path without its last extension."""
    return str(PurePosixPath(name).with_suffix(""))


def listed(items: Sequence[str], separator: str = ", ") -> str:
    """Returns the first items in one line, and how many more there are."""
    more = f"{separator}and {len(items) - MAX_NAMED} more" if len(items) > MAX_NAMED else ""
    return separator.join(items[:MAX_NAMED]) + more


def _lowercase_extension(name: str) -> str:
    path = PurePosixPath(name)
    return str(path.with_suffix(path.suffix.lower()))


def _grouped(names: Iterable[str], key: Callable[[str], str]) -> dict[str, list[str]]:
    groups = defaultdict(list)
    for name in names:
        groups[key(name)].append(name)
    return groups
