"""The journal of a `restore` run on disk, from which an interrupted run continues."""

from __future__ import annotations

import json
import math
import os
import time
import warnings
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal, get_args

from filelock import FileLock, Timeout

from img2img.errors import UserError
from img2img.imaging.parts import appearing, remove_leftovers
from img2img.inference.jobs import Job

HIDDEN = ".img2img"
"""Folder for a run's own files in the output folder; hidden, because searches for images skip hidden folders."""

Status = Literal["restored", "skipped", "failed"]
STATUSES: tuple[Status, ...] = get_args(Status)


@dataclass(frozen=True)
class Record:
    """What happened to one file.

    Attributes:
        name: The output's path relative to the output folder.
        source: The input's path.
        status: `restored`, `failed`, or `skipped` for an output that was already there.
        reason: Why it failed; of a restored file, why it was not scored, or has no pictures.
        width: Width of the output in pixels.
        height: Height of the output in pixels.
        source_bytes: Size of the input file in bytes.
        source_time: Modification time of the input file in nanoseconds.
        bytes: Size of the output file in bytes.
        time: Modification time of the output file in nanoseconds.
        map_bytes: Size of the uncertainty map in bytes; 0 without one.
        map_time: Modification time of the map in nanoseconds; likewise.
        seconds: Time that the network and the encoder took.
        losses: What the output's format could not hold, in words.
        scores: PSNR in dB and SSIM against the reference, if there is one.
        measures: What `img2img.inference.measures` measured of a restored file.

    Raises:
        ValueError: If the status is not one of these three.
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
    measures: dict[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.status not in STATUSES:
            raise ValueError(f"the status of {self.name!r} is {self.status!r}; it must be one of {', '.join(STATUSES)}")


class Journal:
    """The records of a run, one per line, appended as files are finished.

    Each process writes its own file. A job is noted as begun before its output gets its final name, so that a run
    recognises outputs that it made before it was killed.

    Args:
        folder: The output folder.
        run: What identifies the run: model, options, version.
        maps: A second folder that the run writes into, if any.
    """

    def __init__(self, folder: Path, run: dict[str, Any], maps: Path | None = None) -> None:
        self.folder, self.run = folder, run
        self.hidden = folder / HIDDEN
        self._locks = {place: FileLock(place / HIDDEN / "lock") for place in (folder, maps) if place is not None}
        self._found = self._state()

    def is_of_this_run(self) -> bool:
        """Returns whether the output folder holds a journal of the same run."""
        run = self._read("run.json")
        # The model's content identifies it, not its name.
        return isinstance(run, dict) and run | {"model": ""} == self.run | {"model": ""}

    def has_ended(self) -> bool:
        """Returns whether the run finished, instead of being killed or interrupted."""
        return (self.hidden / "ended").exists()

    def note_ended(self) -> None:
        """Notes that the run has finished."""
        (self.hidden / "ended").touch()

    def memory(self) -> int | None:
        """Returns the run's memory limit, on which its tiles depend; None if no run has begun."""
        value = self._read("memory.json")
        return value if type(value) is int and value > 0 else None

    def _read(self, name: str) -> Any:
        try:
            return json.loads((self.hidden / name).read_text(encoding="utf-8"))
        except (OSError, ValueError, RecursionError):  # missing, or cut off because the run was killed as it began
            return None

    def begin(self, memory: int, fresh: bool) -> None:
        """Begins a run that has a memory limit in bytes; continues the journal's, unless the run is `fresh`.

        Raises:
            UserError: If another run is writing into a folder, or a folder cannot be written to.
        """
        place = self.folder
        try:
            for place, lock in self._locks.items():
                _refuse_links(place / HIDDEN)
                (place / HIDDEN).mkdir(parents=True, exist_ok=True)
                lock.acquire(timeout=0)
            if self._state() != self._found:  # the plan was made from the earlier state
                self.release()
                raise UserError(f"another img2img has just written into {self.folder}; run the same command again")
            for place in self._locks:
                remove_leftovers(place)
            for sign in self.hidden.glob("process-*.json"):
                sign.unlink()
            if fresh:
                for old in self.hidden.glob("journal-*.jsonl"):
                    old.unlink()
                for name, value in (("memory.json", memory), ("run.json", self.run)):
                    with appearing(self.hidden / name) as part:
                        part.write_text(json.dumps(value, indent=1), encoding="ascii")
            (self.hidden / "ended").unlink(missing_ok=True)  # last: a run killed before this has not begun
        except Timeout:
            self.release()
            raise UserError(f"another img2img is writing into {place}; wait for it, or choose another folder") from None
        except OSError as error:
            self.release()
            reason = error.strerror or error
            raise UserError(f"nothing can be written into {place} ({reason}); choose another output") from error

    def _state(self) -> dict[str, tuple[int, int]]:
        files = (*self.hidden.glob("journal-*.jsonl"), *self.hidden.glob("run.json"))
        return {path.name: ((status := path.stat()).st_size, status.st_mtime_ns) for path in files}

    def note_begun(self, name: str, rank: int) -> None:
        """Notes that an output is about to get its final name."""
        self._append({"begun": name}, rank)

    def note(self, record: Record, rank: int) -> None:
        """Notes what happened to a file."""
        self._append(asdict(record), rank)

    def _append(self, line: dict[str, Any], rank: int) -> None:
        # In ASCII, whose escapes hold every name, even one that is not Unicode. A kill may have cut the previous line,
        # so this one starts with a newline.
        with open(self.hidden / f"journal-{rank}.jsonl", "a", encoding="ascii") as file:
            file.write("\n" + json.dumps(line | {"at": time.time_ns()}) + "\n")
            file.flush()
            os.fsync(file.fileno())

    def records(self) -> tuple[dict[str, Record], set[str]]:
        """Returns the last record of each output, by name, and the names of outputs begun but not recorded."""
        found: list[tuple[float, str | Record]] = []
        damaged = 0
        for path in self.hidden.glob("journal-*.jsonl"):
            for line in path.read_bytes().splitlines():
                try:
                    found.append(_entry(line))
                except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
                    damaged += line.endswith(b"}")  # others are empty, or cut off because the process was killed
        if damaged:
            warnings.warn(
                f"the journal in {self.hidden} has {damaged} damaged line(s), which are ignored: their files are done "
                "again",
                stacklevel=2,
            )
        records: dict[str, Record] = {}
        begun: set[str] = set()
        for _, what in sorted(found, key=lambda each: each[0]):  # from several processes and several starts
            if isinstance(what, str):
                begun.add(what)
            else:
                records[what.name] = what
                begun.discard(what.name)
        return records, begun

    def release(self) -> None:
        """Releases the folders, so that other runs may write into them."""
        for lock in self._locks.values():
            lock.release()


def _refuse_links(hidden: Path) -> None:
    """Refuses a folder of a run's own files through which it would write elsewhere.

    Raises:
        UserError: If the folder is a link, or holds one.
    """
    if any(file.is_symlink() for file in (hidden, *hidden.glob("*"))):
        raise UserError(f"{hidden} is a link or holds one, which no run leaves: choose another output")


def _entry(line: bytes) -> tuple[float, str | Record]:
    """Returns when a line was written, and the record or the name of the file that it tells of.

    Raises:
        ValueError, TypeError, KeyError, AttributeError, RecursionError: If the line is damaged.
    """
    entry = json.loads(line)
    moment, begun = entry.pop("at"), entry.get("begun")
    what = begun if isinstance(begun, str) else Record(**entry)
    if type(moment) not in (int, float) or (isinstance(what, Record) and not _is_sound(what)):
        raise ValueError("values of the wrong type")
    return moment, what


def _is_sound(record: Record) -> bool:
    """Returns whether every value of a record has the type of its field, and numbers are finite."""
    empty = asdict(Record("", "", "restored"))
    for name, value in asdict(record).items():
        kinds = (int, float) if name == "seconds" else (type(empty[name]),)
        if type(value) not in kinds or (type(value) is float and not math.isfinite(value)):
            return False
    figures = (*record.scores.values(), *record.measures.values())
    return {*map(type, figures)} <= {int, float} and {*map(type, record.losses)} <= {str}


def skipped(job: Job) -> Record:
    """Returns the record of a file whose output existed before the run."""
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
