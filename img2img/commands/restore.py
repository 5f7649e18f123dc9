"""`img2img restore`: restores folders of images, or single images, with a trained model."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from img2img.errors import UserError, printable
from img2img.inference.checks import check_inputs, paths_of
from img2img.inference.engine import open_on_engine
from img2img.inference.options import WHITE_SIGMA, Options
from img2img.inference.pipes import PIPE, as_files
from img2img.inference.plan import in_words, plan_run
from img2img.inference.run import RestoreInterrupted, RestoreStopped, restore
from img2img.own_classes import look_for
from img2img.signature_parser import parser_of

if TYPE_CHECKING:
    from img2img.inference.report import RestoreResult

LOOK_FIRST = 5
"""How many of the images that are worth a look are named; the report names all."""


def run(command: str, arguments: Sequence[str]) -> None:
    """Checks what is cheap to check, and restores or says what would be done."""
    parser = parser_of(restore, command)
    parser.add_argument(
        "--dry_run",
        action="store_true",
        help="Print what would be done, and how much memory it would take. Finds truncated files, but decodes nothing: "
        "other damage shows only when the file is restored.",
    )
    options = vars(parser.parse_intermixed_args(arguments))  # inputs before the options, the output after them
    dry_run = options.pop("dry_run")
    if PIPE in (*options["input"], options["output"]):
        if dry_run or options["watch"]:
            raise UserError("- restores one image: leave out --dry_run and --watch")
        look_for(options["trust"])
        _through_pipes(options)
        return
    check_inputs(paths_of(options["input"]), Path(options["output"]), options["mask"])
    look_for(options["trust"])
    if dry_run:
        print(_described(options))
    else:
        finish(lambda: restore(**options))


def _through_pipes(options: Mapping[str, Any]) -> None:
    """Restores the image that comes from stdin, or goes to stdout; says nothing if all is well.

    Raises:
        UserError: If it was not restored.
    """
    with as_files(options["input"], options["output"], options["format"]) as (source, target):
        result = restore(**{**options, "input": source, "output": target, "progress": False})
        for record in result.failures:
            raise UserError(record.reason.replace(str(source), source.name))
    for record in result.restored:
        if record.reason:
            print(printable(f"restored, but not scored: {record.reason}"), file=sys.stderr)


def _described(options: Mapping[str, Any]) -> str:
    opened = open_on_engine(*(options[name] for name in ("model", "trust", "engine", "accelerator", "precision")))
    plan = plan_run(
        opened.task,
        paths_of(options["input"]),
        Path(options["output"]),
        Options(**{field.name: options[field.name] for field in fields(Options)}),
        options["mask"],
        precision=opened.precision,
        weights=opened.file,
    )
    return plan.describe()


def finish(restoring: Callable[[], RestoreResult]) -> None:
    """Restores, and prints what was done; for `restore` and `predict`.

    Args:
        restoring: Function that restores.

    Raises:
        SystemExit: With code 1 if some file was not restored, 130 if the run was interrupted.
    """
    code, last = 0, ""
    try:
        result = restoring()
    except (RestoreInterrupted, RestoreStopped) as error:
        result, last, code = error.result, str(error), 130 if isinstance(error, RestoreInterrupted) else 1
    from img2img.trainer import first_process

    if first_process():
        say(result)
        if last:
            print(printable(last), file=sys.stderr)
        code = code or int(bool(result.failures))
    elif code == 1:  # Lightning kills the first process, which may still write the report, where another one fails
        code = 0
    if code:
        raise SystemExit(code)


def say(result: RestoreResult) -> None:
    """Prints what was written, where the report is, and on stderr what was not written and why."""
    counts = {
        "were restored before": result.before,
        "were there already": len(result.skipped),
        "could not be restored": len(result.failures),
        "had not settled and wait for the next start": result.waiting,
    }
    others = "".join(f", {count} {what}" for what, count in counts.items() if count)
    restored = len(result.restored) - result.before
    print(printable(f"Restored {restored} image(s) into {result.output}{others}"))
    if result.others:
        print(in_words(result.others))
    for record in result.failures:
        print(printable(f"not restored: {record.reason}"), file=sys.stderr)
    for record in result.restored:
        if record.reason:
            print(printable(f"restored, but not scored or shown: {record.reason}"), file=sys.stderr)
    for what, path in (("Report", result.report), ("Page", result.page)):
        if path is not None:
            print(printable(f"{what}: {path}"))
    _say_where_to_look(result)
    if result.maps is not None:
        print(printable(f"Maps: {result.maps} (white where σ is {WHITE_SIGMA} or more, for pixels from 0 to 1)"))
    if result.problem:
        print(printable(f"the report was not written: {result.problem}"), file=sys.stderr)
    for name, (mean, count) in result.scores.items():
        print(f"{name}: {mean:.3f} (mean of {count} images)")


def _say_where_to_look(result: RestoreResult) -> None:
    """Names the images that are worth a look, the riskiest first."""
    risky = result.look_first
    for name, risk in list(risky.items())[:LOOK_FIRST]:
        print(printable(f"look at this first: {name}: {'; '.join(risk.reasons)}"))
    if len(risky) > LOOK_FIRST:
        print(f"and at {len(risky) - LOOK_FIRST} more, which the report lists")
