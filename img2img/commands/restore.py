"""`img2img restore`: restores a folder of images, or one image, with a trained model."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from img2img.errors import printable
from img2img.inference.checks import check_folders
from img2img.inference.options import Options
from img2img.inference.plan import in_words, open_restorer, plan_run
from img2img.inference.run import RestoreInterrupted, RestoreStopped, restore
from img2img.signature_parser import parser_of

if TYPE_CHECKING:
    from img2img.inference.report import RestoreResult


def run(command: str, arguments: Sequence[str]) -> None:
    """Parses the command line, checks what is cheap to check, and restores.

    Raises:
        SystemExit: With code 1 if some file was not restored, 130 if the run was interrupted.
    """
    parser = parser_of(restore, command, "Restore a folder of images, or one image.", hidden=["progress"])
    parser.add_argument(
        "--dry_run", action="store_true", help="Print what would be done, and how much memory it would take."
    )
    options = vars(parser.parse_args(arguments))
    dry_run = options.pop("dry_run")
    check_folders(Path(options["input"]), Path(options["output"]), options["mask"])
    sys.path.append(os.getcwd())  # for networks of the user's own, beside the images
    if dry_run:
        for name in ("devices", "num_nodes"):
            options.pop(name)
        print(_described(**options))
    else:
        finish(lambda: restore(**options, progress=True))


def _described(
    input: str,
    output: str,
    model: str,
    mask: str | None,
    trust: Sequence[str],
    accelerator: str,
    precision: str,
    **options: object,
) -> str:
    task, file = open_restorer(model, trust)
    from img2img.trainer import best_precision

    name = best_precision(accelerator) if precision == "auto" else precision
    how = Options(**options)  # type: ignore[arg-type]
    return plan_run(task, Path(input), Path(output), how, mask, precision=name, weights=file).describe()


def finish(restoring: object) -> None:
    """Restores, and prints what was done; for `restore` and `predict`.

    Args:
        restoring: Function that restores and returns the result.

    Raises:
        SystemExit: With code 1 if some file was not restored, 130 if the run was interrupted.
    """
    code, last = 0, ""
    try:
        result: RestoreResult = restoring()  # type: ignore[operator]
    except RestoreInterrupted as error:
        result, code, last = error.result, 130, str(error)
    except RestoreStopped as error:
        result, code, last = error.result, 1, str(error)
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
    restored, there, failures = len(result.restored) - result.before, len(result.skipped), result.failures
    already = f", {result.before} were restored before" if result.before else ""
    already += f", {there} were there already" if there else ""
    not_restored = f", {len(failures)} could not be restored" if failures else ""
    print(printable(f"Restored {restored} image(s) into {result.output}{already}{not_restored}"))
    if result.others:
        print(f"passed over, not images: {in_words(result.others)}")
    for record in failures:
        print(printable(f"not restored: {record.reason}"), file=sys.stderr)
    if result.report is not None:
        print(printable(f"Report: {result.report}"))
    if result.page is not None:
        print(printable(f"Page: {result.page}"))
    if result.problem:
        print(printable(f"the report was not written: {result.problem}"), file=sys.stderr)
    for name, (mean, count) in result.scores.items():
        print(f"{name}: {mean:.3f} (mean of {count} images)")
