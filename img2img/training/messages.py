"""What training says: jsonargparse's messages of 70 lines in one line, and metrics as a table."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Iterator, Mapping

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
    known = {cls.__name__: cls for base in classes for cls in subclasses(base)}
    ours = [own for own, cls in known.items() if cls.__module__.startswith("img2img.")]
    close = sorted(own for own in ours if name.lower() in own.lower())  # UNet: RestorationUNet
    close = close or difflib.get_close_matches(name, sorted(known), n=1)
    if close:
        return f"; did you mean {' or '.join(close[:3])}?"
    return "; give the name of a class of img2img, torch or albumentations, or a full path such as package.module.Class"


def subclasses(base: type) -> Iterator[type]:
    """Yields all subclasses of a class that are imported."""
    direct: list[type] = type.__subclasses__(base)
    for cls in direct:
        yield cls
        yield from subclasses(cls)


def metrics_table(stage: str, metrics: Mapping[str, float]) -> str:
    """Returns a line for each metric, rounded to four decimals, with their points aligned."""
    wide = max(map(len, metrics), default=0)
    values = {name: f"{value:12.1e}" if 0 < abs(value) < 0.001 else f"{value:12.4f}" for name, value in metrics.items()}
    return "\n".join([f"{stage.capitalize()} metric", *(f"{name:<{wide}}{value}" for name, value in values.items())])
