"""What the commands that call one function do alike: name skipped files, say what was done, set the exit code."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

from img2img.errors import printable
from img2img.own_classes import look_for

Result = TypeVar("Result")


def carry_out(
    function: Callable[..., Result], options: Mapping[str, Any], describe: Callable[[Result], Sequence[str]]
) -> None:
    """Calls a command's function, and prints what it did.

    Args:
        function: Its result may have `problems`, a line for each file that was skipped.
        options: The function's arguments.
        describe: Returns the lines to print about a result; called on the first process only.

    Raises:
        SystemExit: With code 1 if there are problems.
    """
    look_for(options.get("trust", ()))
    result = function(**options)
    from img2img.trainer import first_process

    if not first_process():
        return  # Lightning kills the first process where another one fails
    problems = getattr(result, "problems", ())
    for problem in problems:
        print(printable(f"skipped: {problem}"), file=sys.stderr)
    for line in describe(result):
        print(printable(line))
    if problems:
        raise SystemExit(1)
