"""Which images show the same part: they stay on one side when a folder is divided."""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import pairwise
from pathlib import PurePosixPath

from img2img.errors import UserError

GroupBy = int | str
"""A distance between numbers in names, or a regular expression on paths; see `groups_of`."""


def groups_of(names: Sequence[str], group_by: GroupBy) -> list[str]:
    """Returns for each image the name of the part that it shows.

    Args:
        names: The images' paths, relative to the root, with forward slashes.
        group_by: A regular expression that is searched in the path: what its groups match, or all that it matches if
            it has none, names the part. Or a number N: within a folder, files whose last numbers follow each other
            closer than N show one part. An image without a match, or without a number, is a part of its own.

    Raises:
        UserError: If the expression is wrong or matches no path, or N is below 1.
    """
    if isinstance(group_by, int):
        if group_by < 1:
            raise UserError(f"--data.group_by {group_by}: give a distance between numbers of 1 or more")
        return _by_numbers(names, group_by)
    try:
        matches = [re.search(group_by, name) for name in names]
    except re.error as error:
        raise UserError(f"--data.group_by {group_by} is no regular expression: {error}") from error
    if not any(matches):
        raise UserError(f"--data.group_by {group_by} matches no path, such as {names[0]}")
    # The slash keeps what an expression finds apart from the names of images without a match.
    return [name if match is None else f"/{_found(match)}" for name, match in zip(names, matches, strict=True)]


def _found(match: re.Match[str]) -> str:
    return "/".join(part or "" for part in match.groups()) if match.re.groups else match[0]


def _by_numbers(names: Sequence[str], distance: int) -> list[str]:
    """Returns for each image the first one of its chain, by folder and number."""
    groups, keyed = list(names), []
    for i, name in enumerate(names):
        found = re.findall(r"\d+", PurePosixPath(name).stem)
        if found:
            keyed.append((PurePosixPath(name).parent, int(found[-1]), name, i))
    keyed.sort()
    for (folder, number, _, before), (other, following, _, i) in pairwise(keyed):
        if folder == other and following - number < distance:
            groups[i] = groups[before]
    return groups
