"""What `restore` and `predict` share: which files, what is done already, in which tiles, and the report at the end."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from img2img import __version__
from img2img.commands.checks import check_maps
from img2img.commands.digests import mask_files, sha256_of_file, sha256_of_task
from img2img.commands.output import Output, parse_size
from img2img.errors import UserError, printable

if TYPE_CHECKING:
    from lightning.pytorch import Callback, Trainer

    from img2img.callbacks.journal import Journal, Record
    from img2img.callbacks.writer import ImageWriter
    from img2img.data.image_folder import ImageFolder
    from img2img.imaging.formats import Header
    from img2img.tasks.restorer import Restorer
    from img2img.tasks.tiled import Planner


class Restoring:
    """One run over a folder, or an image.

    Args:
        task: The model.
        source: Folder, or image.
        output: Where to, and how.
        mask: Where the holes are, for models that fill them.
        model: What the report calls the model.
        precision: What the report calls the precision; tiles are larger in 16 bits.
        weights: The model's file, whose content makes a run the same one; None where that is in the task alone.

    Raises:
        UserError: If nothing could be done, or outputs are there that the run did not make.
    """

    def __init__(
        self,
        task: Restorer,
        source: Path,
        output: Output,
        mask: str | None = None,
        model: str = "",
        precision: str = "32-true",
        weights: Path | None = None,
    ) -> None:
        from img2img.callbacks.journal import Journal
        from img2img.data.holes import find_holes
        from img2img.data.worklist import list_jobs, with_maps

        output.check()
        self.task, self.source, self.output = task, source, output
        self.maps = None if output.uncertainty is None else Path(output.uncertainty)
        self.finder = None if mask is None else find_holes(mask, source)
        self.destination = Path(output.folder)
        if self.maps is not None:
            check_maps(task, self.maps, source, self.destination)
        self.jobs = list_jobs(source, self.destination, output.format)
        if self.maps is not None:
            self.jobs = with_maps(self.jobs, self.maps, source)
        self.one_file = source.is_file() and self.jobs[0].destination == self.destination
        self.run = {
            "version": __version__,
            "model": model,
            "sha256": sha256_of_task(task) if weights is None else sha256_of_file(weights),
            "input": str(source.resolve()),
            "mask": mask_files(mask),
            "format": output.format,
            "quality": output.quality,
            "self_ensemble": output.self_ensemble,
            "tile": output.tile,
            "precision": str(precision),
            "uncertainty": None if self.maps is None else str(self.maps.resolve()),
        }
        self.journal: Journal | None = None if self.one_file else Journal(self.destination, self.run, self.maps)
        self.earlier: dict[str, Record] = {}
        self.fresh = True
        self._decide()

    def _decide(self) -> None:
        """Finds out what is done already, and refuses to touch what others have made."""
        from img2img.callbacks.journal import is_done, others_files, skipped

        made: dict[str, Record] = {}
        begun: set[str] = set()
        again = self.output.overwrite and self.journal is not None and self.journal.has_ended()
        if self.journal is not None and self.journal.is_of_this_run() and not again:
            self.fresh = False
            records, begun = self.journal.records()
            made = {name: record for name, record in records.items() if record.status == "restored"}
            self.earlier = {job.name: records[job.name] for job in self.jobs if is_done(job, records.get(job.name))}
        waiting = [
            job for job in self.jobs if not job.problem and job.name not in begun and job.name not in self.earlier
        ]
        foreign = {job.name: files for job in waiting if (files := others_files(job, made.get(job.name)))}
        if self.output.skip_existing:
            there = [job for job in waiting if job.name in foreign and os.path.exists(job.destination)]
            self.earlier |= {job.name: skipped(job) for job in there}
            foreign = {name: files for name, files in foreign.items() if name not in self.earlier}
        if foreign and not self.output.overwrite:
            raise UserError(
                f"{next(iter(foreign.values()))[0]} exists"
                + (f", and {len(foreign) - 1} more of the outputs" if len(foreign) > 1 else "")
                + ": give --skip-existing to leave what is there, --overwrite to replace it, or another output"
            )

    def planner(self, device: Any = None) -> Planner:
        """Returns what cuts the images, with the memory that an interrupted run began with."""
        from img2img.tasks.tiled import Planner

        memory = parse_size(self.output.memory)
        if memory is None and self.journal is not None and not self.fresh:
            memory = self.journal.memory()
        return Planner(self.task, device, memory, self.output.tile)

    def run_with(self, trainer: Trainer, progress: bool = True, **options: Any) -> None:
        """Restores, and says what was done.

        Args:
            trainer: What runs the network.
            progress: Whether to show a bar.
            options: Further ones of `Trainer.predict`.

        Raises:
            SystemExit: With code 1 if some file was not restored, 130 if the run was interrupted.
        """
        images = self.data(trainer)
        trainer.callbacks.extend(self.callbacks(progress))  # type: ignore[attr-defined]
        try:
            with _interruptible():
                trainer.predict(self.task, datamodule=images, **(options | {"return_predictions": False}))
            self.conclude(trainer.is_global_zero)
        except SystemExit:  # Lightning's answer to Ctrl-C, and to the writer's
            if self.writer.interrupted:
                self.conclude(trainer.is_global_zero)
                raise SystemExit(130) from None
            raise
        finally:
            self.task.ensemble, self.task.uncertainty = 0, False  # it may be the caller's
            if self.journal is not None:
                self.journal.end()

    def data(self, trainer: Trainer) -> ImageFolder:
        """Returns the images as tiles, for a trainer that is built; `callbacks` come after it."""
        from img2img.data.image_folder import ImageFolder
        from img2img.data.worklist import in_groups

        self.plan = self.planner(trainer.strategy.root_device)
        self.task.ensemble = self.plan.cut.stride if self.output.self_ensemble else 0
        self.task.uncertainty = self.maps is not None
        groups = in_groups(self.jobs, self.plan.most_pixels)
        return ImageFolder(groups, self.plan.of_header, self.finder, self.earlier)

    def callbacks(self, progress: bool = True) -> list[Callback]:
        """Returns what writes and what shows."""
        from img2img.callbacks.restore_progress import RestoreProgress
        from img2img.callbacks.writer import ImageWriter

        after: list[Any] = []
        if self.output.reference is not None:
            from img2img.callbacks.reference import Reference

            after.append(Reference(Path(self.output.reference), [job.name for job in self.jobs]))
        if self.output.html and self.journal is not None:
            from img2img.callbacks.thumbnails import Thumbnails

            after.append(Thumbnails(self.journal.hidden, len(self.jobs)))
        self.writer: ImageWriter = ImageWriter(
            self.journal, after, quality=self.output.quality, memory=self.plan.memory, fresh=self.fresh
        )
        return [self.writer, *([RestoreProgress()] if progress else [])]

    def conclude(self, first_process: bool = True) -> None:
        """Writes the report and says what was done.

        Raises:
            SystemExit: With code 1 in the first process if a file was not restored; were others to fail, Lightning
                would kill the first.
        """
        if not first_process:
            return
        from img2img.callbacks.writer import say

        records = self._all_records()
        say(records, self.destination)
        if self.journal is not None:
            self._report(self.journal, records)
            if not self.writer.interrupted and not self.writer.fatal:
                self.journal.note_ended()
        if self.writer.fatal:
            print(printable(f"stopped: {self.writer.fatal}; mend that and run the same command again"), file=sys.stderr)
        elif self.writer.interrupted:
            print("interrupted: run the same command again to go on", file=sys.stderr)
            raise SystemExit(130)
        if self.writer.fatal or any(record.status == "failed" for record in records):
            raise SystemExit(1)

    def _all_records(self) -> list[Record]:
        from img2img.callbacks.journal import failed

        new = {record.name: record for record in self.writer.records}
        if self.journal is not None and self.writer.interrupted:  # the other processes' too
            new = {name: r for name, r in self.journal.records()[0].items() if name not in self.earlier} | new
        found = self.earlier | new
        if not self.writer.interrupted and not self.writer.fatal:
            lost = (job for job in self.jobs if job.name not in found)  # nothing may be left out in silence
            found |= {job.name: failed(job, f"{job.source}: was not reached") for job in lost}
        return [found[job.name] for job in self.jobs if job.name in found]

    def _report(self, journal: Journal, records: Sequence[Record]) -> None:
        from img2img.callbacks.journal import summary_of

        summary = summary_of(records, self.run, self.writer.seconds, self.writer.megapixels)
        try:
            print(printable(f"Report: {journal.write_report(records, summary)}"))
            if self.output.html:
                from img2img.callbacks.thumbnails import write_page

                print(printable(f"Page: {write_page(journal, records, summary)}"))
        except OSError as error:
            print(f"the report was not written: {error}", file=sys.stderr)
        _print_scores(records)

    def describe(self, first: int = 20) -> str:
        """Returns what would be done, for `--dry-run`."""
        planner = self.planner()
        lines, megapixels, most, count = [], 0.0, 0.0, 0
        for job in self.jobs:
            line = job.problem and f"not: {job.problem}"
            if not line and job.name in self.earlier:
                line = f"is there: {job.destination}"
            if not line and job.header is not None:
                try:
                    most = max(most, planner.bytes_of(job.header))
                    line = f"{job.source} → {job.destination}  {_in_words(planner, job.header)}"
                    megapixels, count = megapixels + job.pixels / 1e6, count + 1
                except UserError as error:
                    line = f"not: {job.source}: {error}"
            lines.append(f"  {line}")
        hidden = [f"  … and {len(lines) - first} more"] if len(lines) > first else []
        total = f"{count} of {len(lines)} image(s), {megapixels:.1f} MP; at most about {most / 1e9:.1f} GB of memory"
        return "\n".join([*(printable(line) for line in lines[:first]), *hidden, total])


def _in_words(planner: Planner, header: Header) -> str:
    tiling = planner.of_header(header)
    size = f"{header.width}×{header.height}"
    count = len(tiling.rows) * len(tiling.columns)
    return f"{size}, " + ("whole" if count == 1 else f"{count} tiles of up to {tiling.width}×{tiling.height}")


@contextmanager
def _interruptible() -> Iterator[None]:
    """Lets SIGTERM do what Ctrl-C does, and puts back the handlers, of which Lightning takes away that of Ctrl-C."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    from img2img.callbacks.writer import interrupt

    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler or signal.SIG_DFL)


def _print_scores(records: Sequence[Record]) -> None:
    """Prints the means over the images that have a reference."""
    for name in dict.fromkeys(name for record in records for name in record.scores):
        values = [record.scores[name] for record in records if name in record.scores]
        print(f"{name}: {sum(values) / len(values):.3f} (mean of {len(values)} images)")
