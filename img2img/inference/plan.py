"""The plan of a `restore` run, made before any image is decoded: files, tiles, what is already done."""

from __future__ import annotations

import copy
import os
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from img2img.errors import UserError, printable
from img2img.inference.checks import check_folders, check_maps, check_mask
from img2img.inference.digests import mask_files, sha256_of_file, sha256_of_task
from img2img.inference.options import Options, parse_size
from img2img.shipped import find_model
from img2img.version import __version__

if TYPE_CHECKING:
    import torch

    from img2img.imaging.formats import Header
    from img2img.inference.jobs import Job
    from img2img.inference.journal import Journal, Record
    from img2img.inference.loader import TileDataModule
    from img2img.inference.masks import MaskFinder
    from img2img.tasks import Restoration, Task
    from img2img.tiling.planner import Planner

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
        run: What identifies the run when it is started again: model, input, options, version.
        journal: The run's journal on disk; None for a single file.
        others: Number of files that are not images and are passed over, by suffix.
        done: The records of files that are not restored again, by name.
        goes_on: Whether the run continues an earlier one.
        planner: Cuts the images into tiles.
    """

    task: Restoration
    output: Path
    options: Options
    jobs: Sequence[Job]
    others: Mapping[str, int]
    masks: MaskFinder | None
    run: Mapping[str, Any]
    journal: Journal | None
    done: Mapping[str, Record]
    goes_on: bool
    planner: Planner

    def data(self) -> TileDataModule:
        """Returns the data module that gives a Trainer the images as tiles."""
        from img2img.inference.jobs import in_groups
        from img2img.inference.loader import TileDataModule

        groups = in_groups(self.jobs, self.planner.most_pixels)
        return TileDataModule(groups, self.planner.of_header, self.masks, self.done)

    def describe(self) -> str:
        """Returns a text that says what the run would do: files, tiles, memory."""
        lines, megapixels, most, count = [], 0.0, 0.0, 0
        for job in self.jobs:
            line = job.problem and f"not restored: {job.problem}"
            if not line and job.name in self.done:
                line = f"already there: {job.destination}"
            if not line and job.header is not None:
                try:
                    most = max(most, self.planner.bytes_of(job.header))
                    line = f"{job.source} → {job.destination}  {self._tiles_of(job.header)}"
                    megapixels, count = megapixels + job.pixels / 1e6, count + 1
                except UserError as error:
                    line = f"not restored: {job.source}: {error}"
            lines.append(f"  {line}")
        more = [f"  … and {len(lines) - DESCRIBED} more"] if len(lines) > DESCRIBED else []
        total = f"{count} of {len(lines)} image(s), {megapixels:.1f} MP; at most about {most / 1e9:.1f} GB of memory"
        passed_over = [f"passed over, not images: {in_words(self.others)}"] if self.others else []
        return "\n".join([*(printable(line) for line in lines[:DESCRIBED]), *more, total, *passed_over])

    def _tiles_of(self, header: Header) -> str:
        tiling = self.planner.of_header(header)
        size = f"{header.width}×{header.height}"
        count = len(tiling.rows) * len(tiling.columns)
        return f"{size}, " + ("whole" if count == 1 else f"{count} tiles of up to {tiling.width}×{tiling.height}")


def in_words(others: Mapping[str, int], most: int = 6) -> str:
    """Returns a text with the number of files of each suffix, the most frequent first."""
    counts = Counter(others).most_common()
    listed = ", ".join(f"{count} {suffix}" for suffix, count in counts[:most])
    return printable(listed + (" …" if len(counts) > most else ""))


def open_restorer(model: str | Path | Task, trust: Collection[str] = ()) -> tuple[Restoration, Path | None]:
    """Returns the restoration task of a shipped model's name or a file, with the file; or a copy of a given task.

    A copy, because Lightning moves models between devices and converts their weights.

    Raises:
        UserError: If the model does not restore images.
        CheckpointError: If the file is not a model.
        FileNotFoundError: If there is no such model.
    """
    from img2img.tasks import Restoration
    from img2img.tasks.recipe import load

    file = find_model(model) if isinstance(model, str | Path) else None
    task = copy.deepcopy(model) if file is None else load(file, trust)
    if not isinstance(task, Restoration):
        kind = type(task).__name__
        raise UserError(f"{model if file else 'the model'} does not restore images: it is of the class {kind}")
    return task, file


def plan_run(
    task: Restoration,
    input: Path,
    output: Path,
    options: Options,
    mask: str | None = None,
    name: str = "",
    precision: str = "32-true",
    weights: Path | None = None,
    device: torch.device | None = None,
) -> Plan:
    """Plans a run.

    Args:
        task: The model.
        input: Folder or image.
        output: Folder, or image if the input is one.
        options: How images are restored.
        mask: What to fill, for models that fill holes; see `img2img.restore`.
        name: What the report calls the model.
        precision: Precision of the network, by Lightning's name.
        weights: The model's file, whose digest identifies the run; None to take the digest of the task itself.
        device: Device of the network, whose memory limits the tiles; None for the CPU.

    Raises:
        UserError: If a path or an option cannot be used, or there are outputs that the run did not make.
    """
    from img2img.inference.jobs import list_jobs, with_maps
    from img2img.inference.journal import Journal
    from img2img.inference.masks import mask_finder
    from img2img.tiling.planner import Planner

    check_folders(input, output, mask)
    check_mask(task, mask)
    options.check_output(output)
    maps = None if options.uncertainty is None else Path(options.uncertainty)
    masks = None if mask is None else mask_finder(mask, input)
    if maps is not None:
        check_maps(task, maps, input, output)
    others: Counter[str] = Counter()
    jobs = list_jobs(input, output, options.format, others)
    if maps is not None:
        jobs = with_maps(jobs, maps, input)
    run = {
        "version": __version__,
        "model": name,
        "sha256": sha256_of_task(task) if weights is None else sha256_of_file(weights),
        "input": str(input.resolve()),
        "mask": mask_files(mask),
        "format": options.format,
        "quality": options.quality,
        "self_ensemble": options.self_ensemble,
        "tile": options.tile,
        "precision": str(precision),
        "uncertainty": None if maps is None else str(maps.resolve()),
    }
    one_file = input.is_file() and jobs[0].destination == output
    if one_file and options.html:
        raise UserError("--html needs an output folder for the page; give a folder, or leave out --html")
    journal = None if one_file else Journal(output, run, maps)
    goes_on = journal is not None and journal.is_of_this_run() and not (options.overwrite and journal.has_ended())
    done = _done(jobs, journal if goes_on else None, options)
    memory = parse_size(options.memory)
    if memory is None and journal is not None and goes_on:
        memory = journal.memory()  # the same tiles as before
    planner = Planner(task, device, memory, options.tile)
    return Plan(task, output, options, tuple(jobs), others, masks, run, journal, done, goes_on, planner)


def _done(jobs: Sequence[Job], journal: Journal | None, options: Options) -> dict[str, Record]:
    """Returns the records of outputs that stay as they are.

    Args:
        jobs: The files.
        journal: The journal of the run to continue; None for a new run.
        options: Say what to do with outputs that the run did not make.

    Raises:
        UserError: If there are outputs that the run did not make, and no option says what to do with them.
    """
    from img2img.inference.journal import is_done, others_files, skipped

    records, begun = ({}, set()) if journal is None else journal.records()
    done = {job.name: records[job.name] for job in jobs if is_done(job, records.get(job.name))}
    made = {name: record for name, record in records.items() if record.status == "restored"}
    waiting = [job for job in jobs if not job.problem and job.name not in begun and job.name not in done]
    foreign = {job.name: files for job in waiting if (files := others_files(job, made.get(job.name)))}
    if options.skip_existing:
        there = [job for job in waiting if job.name in foreign and os.path.exists(job.destination)]
        done |= {job.name: skipped(job) for job in there}
        foreign = {name: files for name, files in foreign.items() if name not in done}
    if foreign and not options.overwrite:
        raise UserError(
            f"{next(iter(foreign.values()))[0]} exists"
            + (f", and {len(foreign) - 1} more of the outputs" if len(foreign) > 1 else "")
            + ": give --skip_existing to keep what is there, --overwrite to replace it, or another output"
        )
    return done
