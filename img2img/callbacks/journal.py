"""What a run of `restore` has done so far, on disk: an interrupted run goes on from there."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from filelock import FileLock, Timeout

from img2img.data.worklist import Job
from img2img.errors import UserError
from img2img.imaging.parts import appearing, remove_leftovers

HIDDEN = ".img2img"
"""Folder of a run's own files in the output folder; image folders are read without hidden ones."""
REPORT = "restore_report.json"

Status = Literal["restored", "skipped", "failed"]


@dataclass(frozen=True)
class Record:
    """What became of one file.

    Attributes:
        name: The output's path relative to the output folder.
        source: The input's path.
        status: `restored`, `failed`, or `skipped` for an output that was already there.
        reason: Why it failed.
        width: Of the output, pixels.
        height: Of the output, pixels.
        source_bytes: Size of the input file.
        source_time: When it was last changed, nanoseconds.
        bytes: Size of the output file.
        time: When it was last changed, nanoseconds.
        map_bytes: Size of the map of its uncertainty, where there is one.
        map_time: When that was last changed, nanoseconds.
        seconds: What the network took for it, and its encoder.
        losses: What its format could not hold, in words.
        scores: PSNR in dB and SSIM against the reference, if there is one.
    """

    name: str
    source: str
    status: Status
    reason: str = ""
    width: int = 0
    height: int = 0
    source_bytes: int = 0
    source_time: int = 0
    bytes: int = 0
    time: int = 0
    map_bytes: int = 0
    map_time: int = 0
    seconds: float = 0.0
    losses: list[str] = field(default_factory=list)
    scores: dict[str, float] = field(default_factory=dict)


class Journal:
    """The records of a run, a line each, appended as files are finished.

    Each process has a file of its own. Before an output gets its final name its job is noted as begun: what a killed
    run left behind is known as its own.

    Args:
        folder: The output folder.
        run: What makes the run the same one: model, options, version.
        maps: A second folder that the run writes into; None for none.
    """

    def __init__(self, folder: Path, run: dict[str, Any], maps: Path | None = None) -> None:
        self.folder, self.run = folder, run
        self.hidden = folder / HIDDEN
        self._locks = {place: FileLock(place / HIDDEN / "lock") for place in (folder, maps) if place is not None}
        self._found = self._state()

    def is_of_this_run(self) -> bool:
        """Returns whether the output folder holds a journal of the same run."""
        run = self._read("run.json")
        return isinstance(run, dict) and _without_names(run) == _without_names(self.run)

    def has_ended(self) -> bool:
        """Returns whether the run came to its end, rather than being killed or interrupted."""
        return (self.hidden / "ended").exists()

    def note_ended(self) -> None:
        """Notes that all was done that could be done."""
        (self.hidden / "ended").touch()

    def memory(self) -> int | None:
        """Returns the memory that the run began with, on which its tiles depend; None if there is no such run."""
        value = self._read("memory.json")
        return value if isinstance(value, int) else None

    def _read(self, name: str) -> Any:
        try:
            return json.loads((self.hidden / name).read_text(encoding="utf-8"))
        except (OSError, ValueError):  # none, or of a run that was killed while it began
            return None

    def begin(self, memory: int, fresh: bool) -> None:
        """Begins a run, or goes on with one.

        Args:
            memory: Bytes that it may take.
            fresh: Whether to forget what an earlier run noted.

        Raises:
            UserError: If another run writes into a folder, or nothing can be written there.
        """
        place = self.folder
        try:
            for place, lock in self._locks.items():
                (place / HIDDEN).mkdir(parents=True, exist_ok=True)
                lock.acquire(timeout=0)
            if self._state() != self._found:  # what is to be done was decided from it
                self.end()
                raise UserError(f"another img2img has just written into {self.folder}; run the same command again")
            for place in self._locks:
                remove_leftovers(place)
            if fresh:
                for old in self.hidden.glob("journal-*.jsonl"):
                    old.unlink()
                for name, value in (("memory.json", memory), ("run.json", self.run)):
                    _write_whole(self.hidden / name, json.dumps(value, indent=1))
            (self.hidden / "ended").unlink(missing_ok=True)  # last: killed before, the run has yet to begin
        except Timeout:
            self.end()
            raise UserError(f"another img2img is writing into {place}; wait for it, or choose another") from None
        except OSError as error:
            self.end()
            reason = error.strerror or error
            raise UserError(f"nothing can be written into {place} ({reason}); choose another output") from error

    def _state(self) -> dict[str, tuple[int, int]]:
        files = (*self.hidden.glob("journal-*.jsonl"), *self.hidden.glob("run.json"))
        return {path.name: ((status := path.stat()).st_size, status.st_mtime_ns) for path in files}

    def note_begun(self, name: str, rank: int) -> None:
        """Notes that an output is about to get its final name."""
        self._append({"begun": name}, rank)

    def note(self, record: Record, rank: int) -> None:
        """Notes what became of a file."""
        self._append(asdict(record), rank)

    def _append(self, line: dict[str, Any], rank: int) -> None:
        # In ASCII, which holds every name, also one that is no Unicode. The line before may have been cut by a kill:
        # it must not swallow this one.
        with open(self.hidden / f"journal-{rank}.jsonl", "a", encoding="ascii") as file:
            file.write("\n" + json.dumps(line | {"at": time.time_ns()}) + "\n")
            file.flush()
            os.fsync(file.fileno())

    def records(self) -> tuple[dict[str, Record], set[str]]:
        """Returns the last record of each output, by name, and the names of outputs that were begun and not noted."""
        lines: list[dict[str, Any]] = []
        for path in self.hidden.glob("journal-*.jsonl"):
            for line in path.read_bytes().splitlines():
                try:
                    entry = json.loads(line)
                    lines.append({"at": entry.pop("at"), "name": entry.get("begun") or entry["name"], "entry": entry})
                except (ValueError, TypeError, KeyError):  # empty, or of a process that was killed while it wrote
                    continue
        records: dict[str, Record] = {}
        begun: set[str] = set()
        for known in sorted(lines, key=lambda known: known["at"]):  # of several processes, and of several starts
            if "begun" in known["entry"]:
                begun.add(known["name"])
            else:
                records[known["name"]] = Record(**known["entry"])
                begun.discard(known["name"])
        return records, begun

    def end(self) -> None:
        """Lets others write into the folders."""
        for lock in self._locks.values():
            lock.release()

    def write_report(self, records: Iterable[Record], summary: dict[str, Any]) -> Path:
        """Writes `restore_report.json`: a summary, and what became of each file."""
        path = self.folder / REPORT
        files = [
            {key: value for key, value in asdict(record).items() if value or key == "status"} for record in records
        ]
        _write_whole(path, json.dumps({**summary, "files": files}, indent=1))
        return path


def _without_names(run: dict[str, Any]) -> dict[str, Any]:
    """Leaves out what a model is called: its content tells whether it is the same."""
    return {key: value for key, value in run.items() if key != "model"}


def _write_whole(path: Path, text: str) -> None:
    """Writes ASCII under a temporary name, then renames: there is never half a file."""
    with appearing(path) as part:
        part.write_text(text, encoding="ascii")


def is_done(job: Job, record: Record | None) -> bool:
    """Returns whether an earlier run restored a file, and neither it nor what came of it has changed since."""
    if record is None or record.status == "failed":
        return False
    source, output = _state_of(job.source), _state_of(job.destination)
    if source != (record.source_bytes, record.source_time) or output != (record.bytes, record.time):
        return False
    if job.map is None or record.status == "skipped":
        return True
    return _state_of(job.map) == (record.map_bytes, record.map_time)


def others_files(job: Job, record: Record | None) -> list[Path]:
    """Returns what stands in the way of a job: files that are not as a run left them, being edited, or of others.

    Args:
        job: The job.
        record: What the run noted when it restored the file; None if it did not.
    """
    left = [None, None] if record is None else [(record.bytes, record.time), (record.map_bytes, record.map_time)]
    places = [job.destination, *([] if job.map is None else [job.map])]
    return [
        path for path, known in zip(places, left, strict=False) if os.path.exists(path) and _state_of(path) != known
    ]


def _state_of(path: Path) -> tuple[int, int] | None:
    """Returns a file's size and when it was last changed; None if it cannot be told."""
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_size, status.st_mtime_ns


def skipped(job: Job) -> Record:
    """Returns the record of a file whose output was there before the run, whoever made it."""
    source, output = job.source.stat(), job.destination.stat()
    return Record(
        name=job.name,
        source=str(job.source),
        status="skipped",
        source_bytes=source.st_size,
        source_time=source.st_mtime_ns,
        bytes=output.st_size,
        time=output.st_mtime_ns,
    )


def failed(job: Job, reason: str) -> Record:
    """Returns the record of a file that was not restored."""
    return Record(job.name, str(job.source), "failed", reason)


def summary_of(records: Sequence[Record], run: dict[str, Any], seconds: float, megapixels: float) -> dict[str, Any]:
    """Returns the head of the report: the run, when it ended, how many files, how fast."""
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
