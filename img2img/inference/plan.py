"""The plan of a `restore` run, made before any image is decoded: files, tiles, what is already done."""

from __future__ import annotations

import copy
import os
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from img2img.errors import UserError, printable
from img2img.inference.checks import check_inputs, check_maps, check_mask
from img2img.inference.options import Options, parse_size
from img2img.shipped import find_model

if TYPE_CHECKING:
    import torch

    from img2img.imaging.formats import Header
    from img2img.inference.jobs import Job
    from img2img.inference.journal import Journal, Record
    from img2img.inference.loader import TileDataModule
    from img2img.inference.masks import MaskFinder
    from img2img.inference.references import References
    from img2img.inference.room import Room
    from img2img.inference.strength import Strength
    from img2img.tasks import Restoration, Task
    from img2img.tiling.planner import Planner

EXPORTED = (".onnx", ".pt2", ".xml")
"""Suffixes of the files of `img2img export`."""
DESCRIBED = 20
"""How many files the description of a plan names."""


@dataclass(frozen=True, eq=False)
class Plan:
    """A run of `restore`, before it begins.

    Attributes:
        task: The model.
        output: Output folder, or image.
        options: How images are restored.
        jobs: The files, ordered by name.
        masks: Finds the masks of images; None for models that take no masks.
        references: Scores the outputs; None if that is not wanted.
        strength: How much of the restoration the images get.
        run: What identifies the run when it is started again: model, input, options, version.
        journal: The run's journal on disk; None for a single file.
        others: Number of files in other formats, which are passed over, by suffix.
        done: The records of files that are not restored again, by name.
        continues: Whether the run continues an earlier one.
        planner: Cuts the images into tiles.
    """

    task: Restoration
    output: Path
    options: Options
    jobs: Sequence[Job]
    others: Mapping[str, int]
    masks: MaskFinder | None
    references: References | None
    strength: Strength
    run: Mapping[str, Any]
    journal: Journal | None
    done: Mapping[str, Record]
    continues: bool
    planner: Planner

    def room(self) -> Room:
        """Returns the memory that files share while they are restored."""
        from img2img.inference.room import Room

        return Room(self.planner, [job for job in self.jobs if job.name not in self.done])

    def data(self, room: Room) -> TileDataModule:
        """Returns the data module that gives a Trainer the images as tiles."""
        from img2img.inference.groups import in_groups
        from img2img.inference.loader import TileDataModule

        groups = in_groups(self.jobs, self.planner.most_pixels)
        return TileDataModule(groups, self.planner.of_header, self.masks, self.done, room, self.strength)

    def describe(self) -> str:
        """Returns a text that says what the run would do: files, tiles, memory."""
        lines, megapixels, count = [], 0.0, 0
        for job in self.jobs:
            if job.problem or job.header is None:
                line = f"not restored: {job.problem}"
            elif job.name in self.done:
                line = f"already there: {job.destination}"
            else:
                try:
                    line = f"{job.source} → {job.destination}  {self._tiles_of(job.header, job.destination.suffix)}"
                    megapixels, count = megapixels + job.pixels / 1e6, count + 1
                except UserError as error:
                    line = f"not restored: {job.source}: {error}"
            lines.append(f"  {line}")
        more = [f"  … and {len(lines) - DESCRIBED} more"] if len(lines) > DESCRIBED else []
        memory = f"at most about {self.room().at_most / 1e9:.1f} GB of memory"
        total = f"{count} of {len(lines)} image(s), {megapixels:.1f} MP; {memory}"
        passed_over = [in_words(self.others)] if self.others else []
        return "\n".join([*(printable(line) for line in lines[:DESCRIBED]), *more, total, *passed_over])

    def _tiles_of(self, header: Header, suffix: str) -> str:
        tiling = self.planner.of_header(header, suffix)
        size = f"{header.width}×{header.height}"
        count = len(tiling.rows) * len(tiling.columns)
        return f"{size}, " + ("whole" if count == 1 else f"{count} tiles of up to {tiling.width}×{tiling.height}")


def in_words(others: Mapping[str, int], most: int = 6) -> str:
    """Returns a line about files that were passed over: how many of each suffix, the most frequent first."""
    counts = Counter(others).most_common()
    listed = ", ".join(f"{count} {suffix}" for suffix, count in counts[:most])
    return printable(f"passed over, in other formats: {listed}" + (" …" if len(counts) > most else ""))


def open_restorer(
    model: str | Path | Task, trust: Collection[str] = (), engine: str | None = None
) -> tuple[Restoration, Path | None]:
    """Returns the restoration task of a file or shipped model, with the file; or a copy of a given task.

    It copies, because Lightning moves models between devices and converts their weights. An exported file is opened
    with the engine, if one is named.

    Raises:
        UserError: If the model does not restore images.
        CheckpointError: If the file is not a model.
        FileNotFoundError: If there is no such model.
    """
    from img2img.tasks import Restoration
    from img2img.tasks.recipe import load

    file = find_model(model) if isinstance(model, str | Path) else None
    if file is not None and file.suffix.lower() in EXPORTED:
        from img2img.exporting.exported_task import open_exported

        return open_exported(file, None if engine == "auto" else engine), file
    task = copy.deepcopy(model) if file is None else load(file, trust)
    if not isinstance(task, Restoration):
        kind = type(task).__name__
        raise UserError(f"{model if file else 'the model'} does not restore images: it is of the class {kind}")
    return task, file


def plan_run(
    task: Restoration,
    sources: Sequence[Path],
    output: Path,
    options: Options,
    mask: str | None = None,
    name: str = "",
    precision: str = "32-true",
    weights: Path | None = None,
    device: torch.device | None = None,
    only: Collection[Path] | None = None,
) -> Plan:
    """Plans a run.

    Args:
        task: The model.
        sources: Folders and images.
        output: Folder, or image if there is one source and it is an image.
        options: How images are restored.
        mask: What to fill, for models that fill holes; see `img2img.restore`.
        name: What the report calls the model.
        precision: Precision of the network, by Lightning's name.
        weights: The model's file, whose digest identifies the run; None for the digest of the task in memory.
        device: Device of the network; None for the CPU.
        only: For folders that are watched: the images to restore now. One whose output is there already, made by
            somebody else, then fails alone, and masks may still be added.

    Raises:
        UserError: If a path or an option cannot be used, or there are outputs that the run did not make.
    """
    from img2img.inference.beside import counted
    from img2img.inference.identity import identity, sha256_of
    from img2img.inference.jobs import is_one_file, list_jobs, with_maps
    from img2img.inference.journal import Journal
    from img2img.inference.masks import mask_finder
    from img2img.inference.on_disk import states_of
    from img2img.inference.references import References
    from img2img.inference.report import check_reports
    from img2img.inference.strength import strength_of
    from img2img.tiling.planner import Planner

    check_inputs(sources, output, mask)
    check_mask(task, mask)
    options.check_output(output)
    maps = None if options.uncertainty is None else Path(options.uncertainty)
    masks = None if mask is None else mask_finder(mask, sources)
    strength = strength_of(options.strength, options.strength_map, sources)
    others: Counter[str] = Counter()
    jobs = list_jobs(sources, output, options.format, others, only)
    if maps is not None:
        check_maps(task, maps, sources, output)
        jobs = with_maps(jobs, maps, sources, lasting=only is not None)
    run = {"model": name, "sha256": sha256_of(task if weights is None else weights), "precision": str(precision)}
    run["engine"] = getattr(task, "engine", "torch")
    run |= identity(sources, options, mask, watched=only is not None)
    one_file = is_one_file(sources, output)
    if one_file and options.html:
        raise UserError("--html needs an output folder for the page; give a folder, or leave out --html")
    journal = None if one_file else Journal(output, run, maps)
    continues = journal is not None and journal.is_of_this_run() and not (options.overwrite and journal.has_ended())
    if not options.overwrite:
        jobs = [replace(job, known=states_of(job)) for job in jobs]
        if journal is not None and not options.skip_existing:
            check_reports(output)
    done, foreign = _done(jobs, journal if continues else None, options, watched=only is not None)
    jobs = _without_foreign(jobs, foreign, watched=only is not None)
    limit = memory = parse_size(options.memory)
    if memory is None and journal is not None and continues:
        memory = journal.memory()  # for the same tiles as before
    planner = Planner(task, device, memory, options.tile, limit if device is None or device.type == "cpu" else None)
    references = None if options.reference is None else References(options.reference, jobs, planner)
    jobs = counted(jobs, masks, references, strength)
    how = (masks, references, strength, run, journal, done, continues, planner)
    return Plan(task, output, options, tuple(jobs), others, *how)


def _done(
    jobs: Sequence[Job], journal: Journal | None, options: Options, *, watched: bool
) -> tuple[dict[str, Record], dict[str, list[Path]]]:
    """Returns the records of outputs that stay as they are, and what somebody else made in place of others.

    `journal` belongs to the run to continue, if any. Nothing is foreign to a run that may overwrite. In a watched
    folder, what was made of a file of another name is foreign: that file may be gone.
    """
    from img2img.inference.journal import skipped
    from img2img.inference.on_disk import is_done, others_files

    records, begun = ({}, set()) if journal is None else journal.records()
    done = {job.name: records[job.name] for job in jobs if is_done(job, records.get(job.name))}
    made = {name: record for name, record in records.items() if record.status == "restored"}
    waiting = [job for job in jobs if not job.problem and job.name not in begun and job.name not in done]
    if watched:
        names = {job.name: job.source.name for job in jobs}
        made = {name: record for name, record in made.items() if Path(record.source).name == names.get(name)}
    foreign = {job.name: files for job in waiting if (files := others_files(job, made.get(job.name)))}
    if options.skip_existing:
        there = [job for job in waiting if job.name in foreign and os.path.exists(job.destination)]
        done |= {job.name: skipped(job) for job in there}
        foreign = {name: files for name, files in foreign.items() if name not in done}
    return done, {} if options.overwrite else foreign


def _without_foreign(jobs: Sequence[Job], foreign: Mapping[str, list[Path]], *, watched: bool) -> list[Job]:
    """Returns the jobs; in a watched folder, those in whose place are foreign files have a problem.

    Raises:
        UserError: If there are foreign files and the folder is not watched.
    """
    right = "give --skip_existing to keep what is there, --overwrite to replace it, or another output"
    if foreign and not watched:
        more = f", and {len(foreign) - 1} more of the outputs" if len(foreign) > 1 else ""
        raise UserError(f"{next(iter(foreign.values()))[0]} exists{more}: {right}")
    problems = {name: f"{files[0]} exists: {right}" for name, files in foreign.items()}
    return [replace(job, problem=problems.get(job.name, job.problem)) for job in jobs]
