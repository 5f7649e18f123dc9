"""`img2img.restore`: plans, executes and reports a run."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from img2img.errors import UserError
from img2img.imaging.formats import OFFERED
from img2img.inference.checks import check_inputs, check_watched, paths_of
from img2img.inference.engine import open_on_engine
from img2img.inference.options import Options
from img2img.inference.plan import Plan, plan_run

if TYPE_CHECKING:
    from lightning.pytorch import Trainer

    from img2img.inference.journal import Record
    from img2img.inference.report import RestoreResult
    from img2img.inference.writer import ImageWriter
    from img2img.tasks import Task


class RestoreInterrupted(KeyboardInterrupt):
    """A run was interrupted; the same call continues it.

    Attributes:
        result: The result so far.
    """

    def __init__(self, result: RestoreResult) -> None:
        super().__init__("interrupted: run the same command again to go on")
        self.result = result


class RestoreStopped(UserError):
    """A run could not continue, for example because the disk is full; the same call continues it.

    Attributes:
        result: The result so far.
    """

    def __init__(self, reason: str, result: RestoreResult) -> None:
        super().__init__(f"stopped: {reason}; fix that and run the same command again")
        self.result = result


def restore(
    input: str | Path | Sequence[str | Path],
    output: str | Path,
    model: str | Path | Task,
    mask: str | Path | None = None,
    format: str = "keep",
    quality: int = 95,
    skip_existing: bool = False,
    overwrite: bool = False,
    html: bool = False,
    reference: str | Path | None = None,
    uncertainty: str | Path | None = None,
    strength: float = 1.0,
    strength_map: str | Path | None = None,
    self_ensemble: bool = False,
    memory: str | None = None,
    tile: int | None = None,
    accelerator: str = "auto",
    devices: int | str = "auto",
    num_nodes: int = 1,
    precision: str = "auto",
    engine: Literal["torch", "onnxruntime", "mnn", "auto"] | None = None,
    trust: Sequence[str] = (),
    watch: bool = False,
    progress: bool = False,
) -> RestoreResult:
    """Restores the images of folders, or single images; outputs keep name, tree, size, depth and metadata.

    The same call continues an interrupted run. What an earlier run with the same model and options made is kept, unless
    `overwrite` is given and that run had finished.

    Args:
        input: Folder (searched recursively) or image; or several; then each folder keeps its name in the output. The
            command also takes - for an image from stdin.
        output: Folder, which gets the same tree and names; or image, if the input is one; the command also takes - for
            stdout.
        model: Shipped model's name (`img2img models`), checkpoint, packed model, weights of a published model, or file
            of `img2img export` (.onnx, .xml); in Python also a task from `img2img.load`.
        mask: What to fill, for models that fill holes: a folder of masks with the images' relative paths (white is
            filled), the mask of the one image, `alpha` for what is more than half transparent, or a colour such as
            '#ff00ff'.
        format: keep (default), <formats>.
        quality: 1 to 100, of JPEG, WebP and AVIF (default: 95).
        skip_existing: Keep outputs that are there, whoever made them.
        overwrite: Replace outputs that are there, whoever made them.
        html: Also write a page to compare before and after, restore_report.html.
        reference: Folder of ground truth, matched by relative path: reports PSNR and SSIM.
        uncertainty: Folder for a map of σ of each output, from models that estimate their error
            (`UncertainRestoration`), mean over channels, as gray 16-bit PNG, or TIFF if there are several pages:
            σ = value / 262140, for pixels in [0, 1]; white is 0.25 or more.
        strength: How much of the restoration to keep: 0 is the input, 0.5 the middle, 1 (default) all of it, and up to
            1.5 more than that. Upscaled images are blended with the enlarged input.
        strength_map: Folder of gray images with the images' relative paths, or the one of the one image, that say where
            to keep how much: black is nothing, white is all of `strength`.
        self_ensemble: Average over 8 rotated and mirrored versions: better, and 8 times slower.
        memory: Memory limit, such as 2GB (default: half of what is free, at most 3 GB).
        tile: Side of the tiles in pixels (default: chosen by memory).
        accelerator: cpu, gpu, auto … as in Lightning (default: auto).
        devices: How many devices share the images (default: auto).
        num_nodes: How many machines share the images (default: 1).
        precision: auto (default), or Lightning's names, such as 32-true.
        engine: What runs the network: torch (default), another runtime, or auto for the fastest that is installed and
            gives the same image. The others run on the CPU; exported files have theirs.
        trust: Further package whose classes the checkpoint may name.
        watch: Go on with what arrives in the folders, until Ctrl-C: files whose size and time have settled.
        progress: Whether to show a progress bar.

    Returns:
        The record of each file, and where the report is.

    Raises:
        UserError: If an input does not exist, the output is inside it, two images would get one output, there are
            outputs that the run did not make, a mask is missing, or an option is out of range.
        CheckpointError: If the model cannot be opened.
        RestoreInterrupted: If the run was interrupted; what was done stays.
        RestoreStopped: If the disk is full, or nothing more can be written.
    """
    options = Options(
        format, quality, overwrite, skip_existing, html, reference, self_ensemble, memory, tile, uncertainty,
        strength, strength_map,
    )  # fmt: skip
    sources = paths_of(input)
    check_inputs(sources, Path(output), mask)
    if watch:
        check_watched(sources, devices, num_nodes)
    from img2img.trainer import Trainer, quieten

    opened = open_on_engine(model, trust, engine, accelerator, precision)
    quieten()

    def new_trainer() -> Trainer:
        return Trainer(
            accelerator=opened.accelerator,
            devices=1 if watch else devices,
            num_nodes=num_nodes,
            precision=opened.precision,  # type: ignore[arg-type]
            logger=False,
            enable_checkpointing=False,
            enable_model_summary=False,
            enable_progress_bar=False,
        )

    trainer = new_trainer()
    plan = partial(
        plan_run,
        opened.task,
        sources,
        Path(output),
        options,
        mask=None if mask is None else str(mask),
        name=str(model) if opened.file else type(opened.task).__name__,
        precision=opened.precision,
        weights=opened.file,
        device=trainer.strategy.root_device,
    )
    if watch:
        from img2img.inference.watching import watch_folders

        return watch_folders(sources, plan, new_trainer, progress)
    return run_plan(plan(), trainer, progress)


restore.__doc__ = (restore.__doc__ or "").replace("<formats>", ", ".join(OFFERED))


def run_plan(plan: Plan, trainer: Trainer, progress: bool = False) -> RestoreResult:
    """Executes a plan and, in the first process, writes its report; returns the result in every process.

    Of a single file, only the first process has the record. Where another process is lost, this one finishes its own
    part first.

    Args:
        plan: What to do.
        trainer: Runs the network; gets the callbacks that write files and show progress.
        progress: Whether to show a progress bar.

    Raises:
        RestoreInterrupted: If the run was interrupted.
        RestoreStopped: If nothing more could be written, or another process was lost.
        ProcessLost: If the first process was lost.
        UserError: If another run is writing into the folder, or it cannot be written to.
    """
    from img2img.distributed import ProcessLost
    from img2img.inference.report import RestoreResult, write_report

    try:
        done = execute(plan, trainer, progress)
        records = all_records(plan, done)
        if trainer.is_global_zero:
            result = write_report(plan, records, done.seconds, done.megapixels)
            if plan.journal is not None and not done.interrupted and not done.stopped:
                plan.journal.note_ended()
        else:
            result = RestoreResult(plan.output, records, done.seconds, done.megapixels)
    finally:
        if plan.journal is not None:
            plan.journal.release()
    if done.without_first:
        raise ProcessLost("the first process, which writes the report, was lost; run the same command again")
    if done.stopped:
        raise RestoreStopped(done.stopped, result)
    if done.interrupted:
        raise RestoreInterrupted(result)
    return result


def execute(plan: Plan, trainer: Trainer, progress: bool = False) -> ImageWriter:
    """Restores what the plan says, see `run_plan`; returns the writer, which knows what was done."""
    from img2img.inference.interruption import Interruptible
    from img2img.inference.module import TileRestorer
    from img2img.inference.progress import RestoreProgress
    from img2img.inference.writer import ImageWriter
    from img2img.trainer import Trainer as OwnTrainer

    room = plan.room()
    writer = ImageWriter(
        plan.journal, _followers(plan), plan.options.quality, plan.planner.memory, fresh=not plan.continues, room=room
    )
    module = TileRestorer(plan.task, plan.options.self_ensemble, plan.options.uncertainty is not None)
    bar = [RestoreProgress()] if progress else []
    with Interruptible() as interruptible:
        trainer.callbacks.extend([writer, interruptible, *bar])  # type: ignore[attr-defined]
        if isinstance(trainer, OwnTrainer):
            trainer.outlives_others = True
        try:
            trainer.predict(module, datamodule=plan.data(room), return_predictions=False)
        except SystemExit:  # Lightning raises this for Ctrl-C and for the writer's interrupt
            if not writer.interrupted:
                raise
    return writer


def _followers(plan: Plan) -> list[Any]:
    """Returns the functions to call with each finished file."""
    followers: list[Any] = [] if plan.references is None else [plan.references]
    if plan.options.html and plan.journal is not None:
        from img2img.inference.thumbnails import Thumbnails

        known = plan.journal.records()[0] if plan.continues else ()
        followers.append(Thumbnails(plan.journal.hidden, len({*known, *(job.name for job in plan.jobs)})))
    return followers


def all_records(plan: Plan, writer: ImageWriter) -> tuple[Record, ...]:
    """Returns the records of the files that this or an earlier run reached, ordered by name."""
    from img2img.inference.journal import failed

    new = {record.name: record for record in writer.records}
    if plan.journal is not None and (writer.interrupted or writer.shared):  # also those of the other processes
        new = {name: record for name, record in plan.journal.records()[0].items() if name not in plan.done} | new
    found = {**plan.done, **new}
    if not writer.interrupted and not writer.stopped:
        lost = (job for job in plan.jobs if job.name not in found)  # no file may be dropped silently
        found |= {job.name: failed(job, f"{job.source}: was not reached") for job in lost}
    return tuple(found[job.name] for job in plan.jobs if job.name in found)
