"""Finds the user's own classes: only modules that a config or `--trust` names, only by their own files.

The working directory is never on `sys.path`: libraries try to import packages that may be absent (`opt_einsum`,
`regex`, `matplotlib` …), and would run a file of that name among downloaded photographs.
"""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Collection, Iterator, Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path
from typing import Any

_FOR_WORKERS = "IMG2IMG_OWN_CLASSES"
"""Environment variable that tells spawned processes what this one looks for, and where."""
_DOTTED = re.compile(r"([A-Za-z_]\w*)(\.[A-Za-z_]\w*)+")


class OwnClasses(MetaPathFinder):
    """Finds modules and packages of given names in given folders; comes after all other finders.

    Attributes:
        names: Names of top-level modules; no other name is ever looked for.
        folders: Where to look.
    """

    def __init__(self) -> None:
        self.names: frozenset[str] = frozenset()
        self.folders: tuple[str, ...] = ()

    def find_spec(self, fullname: str, path: Sequence[str] | None = None, target: Any = None) -> ModuleSpec | None:
        """Returns the spec of a module that may be looked for; None for any other."""
        # A package finds its own submodules by its `__path__`.
        return PathFinder.find_spec(fullname, self.folders) if path is None and fullname in self.names else None


_FINDER = OwnClasses()


def look_for(names: Collection[str], *folders: Path) -> None:
    """Lets imports find the user's modules of these names, in the working directory and then in other folders.

    Replaces what an earlier call allowed. Processes that this one starts later look for the same.

    Args:
        names: Names of modules or packages; of `a.b`, the package `a` is looked for.
        folders: Folders to look in, after the working directory.
    """
    _FINDER.names = frozenset(name.partition(".")[0] for name in names)
    _FINDER.folders = tuple(dict.fromkeys(str(folder.resolve()) for folder in (Path.cwd(), *folders)))
    os.environ[_FOR_WORKERS] = json.dumps([sorted(_FINDER.names), _FINDER.folders])
    sys.meta_path[:] = [*(finder for finder in sys.meta_path if finder is not _FINDER), _FINDER]  # the last one


def look_as_parent() -> None:
    """Looks for what the process that started this one looks for; does nothing in the first process."""
    if _FOR_WORKERS in os.environ:
        names, folders = json.loads(os.environ[_FOR_WORKERS])
        look_for(names, *map(Path, folders))


def modules_in(settings: Any, paths: Collection[str] = ()) -> Iterator[str]:
    """Yields the names of the top-level modules of all class paths in settings, such as `mine` of `mine.Net`.

    Args:
        settings: Plain data without cycles, as from a config. A class may be named without the key `class_path`.
        paths: Keys whose values are files or folders.
    """
    if isinstance(settings, str):
        if found := _DOTTED.fullmatch(settings.strip()):
            yield found[1]
    elif isinstance(settings, dict):
        for key, value in settings.items():
            if key not in paths:
                yield from modules_in(value, paths)
    elif isinstance(settings, list):
        for value in settings:
            yield from modules_in(value, paths)
