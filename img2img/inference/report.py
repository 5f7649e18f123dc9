"""The report of a `restore` run: as data, as restore_report.json, and as a page that compares before and after."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from img2img.imaging.parts import appearing
from img2img.inference.journal import Record
from img2img.inference.report_page import Entry, write_report_page
from img2img.inference.thumbnails import thumbnail_file

if TYPE_CHECKING:
    from img2img.inference.plan import Plan

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
        others: Number of files that are not images and were passed over, by suffix.
        problem: Why the report could not be written; empty if it was.
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

    @property
    def restored(self) -> list[Record]:
        """The files that were restored."""
        return [record for record in self.records if record.status == "restored"]

    @property
    def skipped(self) -> list[Record]:
        """The files whose outputs existed before the run."""
        return [record for record in self.records if record.status == "skipped"]

    @property
    def failures(self) -> list[Record]:
        """The files that were not restored, each with its `reason`."""
        return [record for record in self.records if record.status == "failed"]

    @property
    def scores(self) -> dict[str, tuple[float, int]]:
        """Mean of each score against the references, and the number of images, by the score's name."""
        found: dict[str, list[float]] = {}
        for record in self.records:
            for name, value in record.scores.items():
                found.setdefault(name, []).append(value)
        return {name: (sum(values) / len(values), len(values)) for name, values in found.items()}


def write_report(plan: Plan, records: Sequence[Record], seconds: float, megapixels: float) -> RestoreResult:
    """Writes the report of a run, and the page if the plan asks for one; returns the result.

    A single file has no report. If the report cannot be written, the result says why: the images are there anyway.
    """
    report = page = None
    problem = ""
    if plan.journal is not None:
        summary = summary_of(records, plan.run, seconds, megapixels)
        try:
            report = plan.output / REPORT
            files = [{key: value for key, value in asdict(r).items() if value or key == "status"} for r in records]
            with appearing(report) as part:
                part.write_text(json.dumps({**summary, "files": files}, indent=1), encoding="ascii")
        except OSError as error:
            report, problem = None, str(error)
        if plan.options.html:
            try:
                page = _write_page(plan.output, plan.journal.hidden, records, summary)
            except OSError as error:
                problem = str(error)
    before = sum(record.status == "restored" for record in plan.done.values())
    return RestoreResult(plan.output, tuple(records), seconds, megapixels, report, page, before, plan.others, problem)


def summary_of(records: Sequence[Record], run: Any, seconds: float, megapixels: float) -> dict[str, Any]:
    """Returns the summary at the top of the report: run, time, counts and speed."""
    counts = {
        status: sum(record.status == status for record in records) for status in ("restored", "skipped", "failed")
    }
    return {
        **run,
        "ended": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        **counts,
        "seconds": round(seconds, 2),
        "megapixels_per_second": round(megapixels / seconds, 3) if seconds else 0.0,
    }


def _write_page(folder: Path, hidden: Path, records: Sequence[Record], summary: dict[str, Any]) -> Path:
    facts = {
        "Model": str(summary["model"]),
        "Version": f"img2img {summary['version']}",
        "Ended": str(summary["ended"]),
        "Speed": f"{summary['megapixels_per_second']} MP/s",
    }
    write_report_page(folder / PAGE, f"Restored: {folder.name}", facts, _entries(hidden, records))
    return folder / PAGE


def _entries(hidden: Path, records: Sequence[Record]) -> Iterator[Entry]:
    for record in records:
        kinds = ("before", "after", "before_detail", "after_detail")
        files = {which: thumbnail_file(hidden, record.name, which) for which in kinds}
        pictures = {which: file.read_bytes() if file.exists() else None for which, file in files.items()}
        yield Entry(
            name=record.name,
            status=record.status,
            reason=record.reason,
            width=record.width,
            height=record.height,
            seconds=record.seconds,
            scores=record.scores,
            **pictures,
        )
