"""Shortens jsonargparse's messages, which run to 70 lines, to one."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Iterator

_BOILERPLATE = re.compile(
    r"Does not validate against|Subtypes:|Errors:|Given value|Expected a path but|Expected a <class 'NoneType'>"
)
_KEY = re.compile(r'Parser key "([^"]+)":\s*')
_NO_CLASS = re.compile(r"Expected a dot import path string: (.+)")
_LITERAL = re.compile(r"Expected a typing\.Literal\[(.+)\]")
_TYPE = re.compile(r"Expected an? <class '(?:.+\.)?([^'.]+)'>\.?(?: Got value: (.*))?")


def essence(message: str, classes: Iterable[type] = ()) -> str:
    """Returns the essence of a parser's message in one line.

    Args:
        message: jsonargparse's message; it may contain the essence of a nested parser's message.
        classes: Base classes, whose subclasses are suggested for a misspelt name.
    """
    key = _KEY.match(message)
    reasons: list[str] = []
    for line in _KEY.sub("", message).splitlines():
        reason = _plain(line.strip(" -\t") if not line.strip().startswith("- --") else line.strip()[2:], classes)
        if reason and reason not in reasons:
            reasons.append(reason)
    # A nested parser's essence is the most specific; it begins with its part of the option, --network: …
    nested = next((reason for reason in reasons if reason.startswith("--")), None)
    if key and nested:
        return f"--{key[1]}.{nested.removeprefix('--')}"
    text = " or ".join(reasons) or "this value is not accepted"
    return f"--{key[1]}: {text}" if key else text


def _plain(line: str, classes: Iterable[type]) -> str:
    """Returns a line in plain words; empty if it says nothing."""
    if not line or _BOILERPLATE.match(line):
        return ""
    if found := _NO_CLASS.match(line):
        return f"there is no class {found[1]}{_suggest(found[1], classes)}"
    if found := _LITERAL.match(line):
        return found[1].replace("'", "")
    if found := _TYPE.match(line):
        return f"expected {found[1]}" + (f", not {found[2]}" if found[2] else "")
    return line


def _suggest(name: str, classes: Iterable[type]) -> str:
    known = {cls.__name__ for base in classes for cls in _subclasses(base)}
    close = difflib.get_close_matches(name, sorted(known), n=1)
    if close:
        return f"; did you mean {close[0]}?"
    return "; give the name of a class of img2img, torch or albumentations, or a full path such as package.module.Class"


def _subclasses(base: type) -> Iterator[type]:
    subclasses: list[type] = type.__subclasses__(base)
    for cls in subclasses:
        yield cls
        yield from _subclasses(cls)
