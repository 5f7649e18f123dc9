"""The report of a `restore` run: as data, as restore_report.json, and as a page that compares before and after."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from img2img.errors import UserError
from img2img.imaging.parts import appearing
from img2img.inference.journal import STATUSES, Record, Status
from img2img.inference.report_page import Pictures, write_report_page
from img2img.inference.risk import Risk, look_first, risks_of
from img2img.inference.thumbnails import KINDS, thumbnail_file

if TYPE_CHECKING:
    from img2img.inference.plan import Plan

_WITH_PATHS = ("model", "input", "mask", "uncertainty", "strength_map")
_GENERATOR = '<meta name="generator" content="img2img">'
REPORT, PAGE = "restore_report.json", "restore_report.html"


@dataclass(frozen=True)
class RestoreResult:
    """The result of `img2img.restore`.

    Attributes:
        output: Output folder, or image.
        records: The record of each file, ordered by name; after an interruption, of the files that were reached.
        seconds: How long the run took.
        megapixels: Megapixels that went through the network.
        report: restore_report.json; None for a single file, or if it could not be written.
        page: restore_report.html, if asked for.
        before: How many files earlier starts of the same run had restored.
        others: Number of files in other formats, which were passed over, by suffix.
        problem: Why the report could not be written; empty if it was.
        maps: Folder of the uncertainty maps, if asked for.
        waiting: Number of files that had not settled when a watched folder was left.
    """

    output: Path
    records: tuple[Record, ...]
    seconds: float = 0.0
    megapixels: float = 0.0
    report: Path | None = None
    page: Path | None = None
    before: int = 0
    others: Mapping[str, int] = field(default_factory=dict)
    problem: str = ""
    maps: Path | None = None
    waiting: int = 0

    @property
    def restored(self) -> list[Record]:
        """The files that were restored."""
        return self._of("restored")

    @property
    def skipped(self) -> list[Record]:
        """The files whose outputs existed before the run."""
        return self._of("skipped")

    @property
    def failures(self) -> list[Record]:
        """The files that were not restored, each with its `reason`."""
        return self._of("failed")

    def _of(self, status: Status) -> list[Record]:
        return [record for record in self.records if record.status == status]

    @property
    def look_first(self) -> dict[str, Risk]:
        """The restored files that are worth a look, by name, the highest risk first, each with its `reasons`."""
        return look_first(risks_of(self.records))

    @property
    def scores(self) -> dict[str, tuple[float, int]]:
        """Mean of each score against the references, and the number of images, by the score's name."""
        found: dict[str, list[float]] = {}
        for record in self.records:
            for name, value in record.scores.items():
                found.setdefault(name, []).append(value)
        return {name: (sum(values) / len(values), len(values)) for name, values in found.items()}


def check_reports(folder: Path) -> None:
    """Checks that no report of somebody else would be replaced.

    Raises:
        UserError: If a file with a report's name is not a report of this program.
    """
    for name in (REPORT, PAGE):
        if os.path.lexists(folder / name) and not _is_ours(folder / name):
            raise UserError(
                f"{folder / name} exists and is not a report of img2img; rename it, give --overwrite to replace it, or "
                "choose another output"
            )


def _is_ours(path: Path) -> bool:
    """Returns whether a file is a report or page of this program, judged by its content."""
    try:
        if path.name == PAGE:
            with open(path, encoding="utf-8") as page:
                return _GENERATOR in page.read(1000)
        return {"version", "sha256", "files"} <= set(json.loads(path.read_text(encoding="ascii")))
    except (OSError, ValueError, TypeError, RecursionError):
        return False


def write_report(plan: Plan, records: Sequence[Record], seconds: float, megapixels: float) -> RestoreResult:
    """Writes the report of a run, and the page if the plan asks for one; returns the result.

    A single file has no report. If the report cannot be written, the result says why, because the images are there.
    """
    report = page = None
    problem = ""
    if plan.journal is not None:
        speed = round(megapixels / seconds, 3) if seconds else 0.0
        summary: dict[str, Any] = {
            **plan.run,
            **{key: _paths_from(plan.output, plan.run[key]) for key in _WITH_PATHS},
            "ended": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
            **{status: sum(record.status == status for record in records) for status in STATUSES},
            "seconds": round(seconds, 2),
            "megapixels_per_second": speed,
        }
        risks = risks_of(records)
        try:
            report = plan.output / REPORT
            named = [_named_from(plan.output, record) for record in records]
            first = [{"name": name, **asdict(risk)} for name, risk in look_first(risks).items()]
            files = [{key: value for key, value in asdict(record).items() if value} for record in named]
            with appearing(report, replace=plan.options.overwrite or _is_ours(report)) as part:
                text = json.dumps({**summary, "look_at_these_first": first, "files": files}, indent=1)
                part.write_text(text, encoding="ascii")
        except OSError as error:
            report, problem = None, _kept(error)
        if plan.options.html:
            try:
                named = [_named_from(plan.output, record) for record in records]
                page = _write_page(plan, plan.journal.hidden, named, summary, risks)
            except OSError as error:
                problem = _kept(error)
    before = sum(record.status == "restored" for record in plan.done.values())
    maps = None if plan.options.uncertainty is None else Path(plan.options.uncertainty)
    return RestoreResult(
        plan.output, tuple(records), seconds, megapixels, report, page, before, plan.others, problem, maps
    )


def _paths_from(folder: Path, value: Any) -> Any:
    """Returns a path, or several, relative to the folder of the report; anything else as it is."""
    if isinstance(value, list):
        return [_paths_from(folder, each) for each in value]
    if not isinstance(value, str) or not os.path.isabs(value):
        return value
    try:
        return Path(os.path.relpath(value, folder)).as_posix()
    except ValueError:  # on another drive of Windows
        return Path(value).name


def _named_from(folder: Path, record: Record) -> Record:
    """Returns a record that names files relative to the folder of the report, to which it can move with them."""
    reason = record.reason
    for absolute in (record.source, str(folder.absolute() / record.name)):
        if os.path.isabs(absolute):
            reason = reason.replace(absolute, _paths_from(folder, absolute))
    return replace(record, source=_paths_from(folder, os.path.abspath(record.source)), reason=reason)


def _kept(error: OSError) -> str:
    return (
        f"{error.filename2 or error.filename} is somebody else's" if isinstance(error, FileExistsError) else str(error)
    )


def _write_page(
    plan: Plan, hidden: Path, records: Sequence[Record], summary: Mapping[str, Any], risks: Mapping[str, Risk]
) -> Path:
    facts = {
        "Model": str(summary["model"]),
        "Strength": f"{100 * summary['strength']:g} %" + (", times the maps" if summary["strength_map"] else ""),
        "Version": f"img2img {summary['version']}",
        "Ended": str(summary["ended"]),
        "Speed": f"{summary['megapixels_per_second']} MP/s",
    }
    page = plan.output / PAGE
    order = {name: number for number, name in enumerate(look_first(risks))}
    riskiest = sorted(records, key=lambda record: order.get(record.name, len(order)))
    write_report_page(
        page,
        f"Restored: {plan.output.name}",
        facts,
        _entries(hidden, riskiest),
        risks=risks,
        strength=plan.strength.factor,
        replace=plan.options.overwrite or _is_ours(page),
    )
    return page


def _entries(hidden: Path, records: Sequence[Record]) -> Iterator[tuple[Record, Pictures]]:
    for record in records:
        files = {which: thumbnail_file(hidden, record.name, which) for which in KINDS}
        yield record, {which: file.read_bytes() for which, file in files.items() if file.exists()}
