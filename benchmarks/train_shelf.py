"""Trains the shipped models, one after the other, for hours; continues wherever it was stopped.

Each model trains at a constant learning rate in `RUNS/NAME` until its hours are spent. Then, or whenever `--end NAME`
asks for it, a copy of the run is ended with a decay of its rates, measured, and packed as `RUNS/NAME.safetensors`; the
long run itself is kept and can continue. Time during which the process was frozen is not counted.

    python benchmarks/train_shelf.py --root bsds432 budgie26 photos --validation kodak24 [--runs runs/shelf]
                                     [--hours denoise=8 denoise_photo=2 …] [--threads 1] [-- any flags of fit]
    python benchmarks/train_shelf.py --status [--runs runs/shelf]
    python benchmarks/train_shelf.py --end denoise [--steps 8000] --root … --validation …
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))  # so that the CLI finds ActiveHours by its class path


@dataclass(frozen=True)
class Model:
    """A shipped model and how it is trained.

    Attributes:
        config: The config that trains it.
        hours: Hours of training, unless `--hours` says otherwise.
        starts_from: The model that it is fine-tuned from.
        flags: Flags that override the config.
    """

    config: str
    hours: float
    starts_from: str | None = None
    flags: tuple[str, ...] = ()


GRAY = (  # a tenth of the crops are gray and get gray noise, for gray photographs through the same model
    "--data.geometry=[{class_path: D4, init_args: {p: 1.0}}, {class_path: ToGray, init_args: {p: 0.1}}]",
    "--data.corruption=[{class_path: GaussianNoise, init_args: {sigma: [0, 55], match_gray: true}}]",
)
ZOOM = '{"class_path": "RandomResizedCrop", "init_args": {"size": [256, 256], "scale": [0.1, 1.0], "p": 1.0}}'
COLOUR = (  # narrower as well; larger crops show more of what a thing is; at a rate of 0.005 the run diverged
    "--model.network.init_args.channels=[48,80,128,144]",
    *("--data.crop_size=320", "--data.batch_size=4", "--model.lr=0.002"),
    # Things are seen from far and from near by.
    f'--data.geometry=[{ZOOM}, {{"class_path": "HorizontalFlip", "init_args": {{"p": 0.5}}}}]',
    '--model.loss={"class_path": "ChromaLoss", "init_args": {"saturation": 1.0}}',  # livelier than the config's
)
QUEUE = {
    "denoise": Model("denoise_long.yaml", 8, flags=GRAY),
    "denoise_photo": Model("denoise_photo.yaml", 3, starts_from="denoise"),
    # Narrower than in their configs, for files below 6 MB.
    "inpaint": Model("inpaint.yaml", 5, flags=("--model.network.init_args.channels=[64,96,128,120]",)),
    "colorize": Model("colorize.yaml", 5, flags=COLOUR),
}
"""The models in the order in which they are trained."""

LONG = [
    *("--model.decay_steps=0", "--average.horizon=0.05", "--last.every_n_steps=500"),
    *("--trainer.max_steps=-1", "--trainer.max_epochs=-1", "--trainer.log_every_n_steps=100"),
    *("--trainer.val_check_interval=500", "--data.samples_per_epoch=80000", "--data.share=0"),
    *("--data.val_images=null", "--data.val_crop_size=256", "--trainer.enable_progress_bar=false"),
]


def run_of(runs: Path, name: str) -> Path:
    """Returns the folder of a model's run."""
    return runs / name / Path(QUEUE[name].config).stem / "0"


def state_of(run: Path) -> dict[str, Any] | None:
    """Returns the run's last checkpoint, None if there is none yet."""
    import torch  # after the number of threads is set

    file = run / "last.ckpt"
    return torch.load(file, weights_only=True, map_location="cpu") if file.exists() else None


def hours_of(state: dict[str, Any] | None) -> float:
    """Returns the hours that a run has trained, across all its interruptions."""
    return 0.0 if state is None else float(state["callbacks"].get("ActiveHours", {}).get("seconds", 0.0)) / 3600


def train(name: str, options: argparse.Namespace, hours: float) -> None:
    """Trains a model until its hours are spent; resumes from its last checkpoint."""
    run, first = run_of(options.runs, name), QUEUE[name].starts_from
    if (run / "last.ckpt").exists():
        flags = ["--ckpt_path=last", "--model.weights=null"]
    else:
        shutil.rmtree(run, ignore_errors=True)  # killed before its first checkpoint: nothing to keep
        flags = [] if first is None else [f"--model.weights={options.runs / first}.safetensors"]
    clock = [{"class_path": "active_hours.ActiveHours", "init_args": {"hours": hours}}]
    fit(name, options, options.runs / name, [f"--trainer.callbacks={json.dumps(clock)}", *flags])


def end(name: str, options: argparse.Namespace) -> Path:
    """Ends a copy of a run with its decay, and packs it; returns the file.

    An interrupted copy is continued; a finished one is not trained again.

    Raises:
        SystemExit: If the run has no checkpoint yet.
    """
    import img2img
    from img2img.imaging.parts import appearing

    run = run_of(options.runs, name)
    state = state_of(run)
    if state is None:
        raise SystemExit(f"{name} has no checkpoint yet under {run}: train it first")
    first = state["global_step"]
    branch = options.runs / f"{name}-ended" / f"{first}+{options.steps}"
    copy, target = branch / run.parent.name / "0", options.runs / f"{name}.safetensors"
    if not (copy / "last.ckpt").exists():
        with appearing(copy / "last.ckpt") as part:
            shutil.copy2(run / "last.ckpt", part)
    if state_of(copy)["global_step"] < first + options.steps:  # type: ignore[index]
        fit(name, options, branch, [f"--model.decay_steps={options.steps}", "--ckpt_path=last", "--model.weights=null"])
    return img2img.pack(copy / "last.ckpt", target, overwrite=True).model


def fit(name: str, options: argparse.Namespace, place: Path, flags: list[str]) -> None:
    """Runs `img2img fit` in this process, so that stopping, freezing or killing one does so to the other."""
    from img2img.cli import main as img2img

    folders = json.dumps([str(Path(folder).resolve()) for folder in options.root])
    data = [f"--data.root={folders}", f"--data.val_dir={options.validation}"]
    os.environ.pop("IMG2IMG_RUN", None)  # an earlier run's
    where = f"--trainer.default_root_dir={place}"
    model = QUEUE[name]
    img2img(["fit", "--config", model.config, *LONG, *model.flags, *data, where, *flags, *options.flags])


def status(runs: Path, hours: dict[str, float]) -> None:
    """Prints the hours, steps, megapixels and validations of each model so far."""
    import yaml

    for name, model in QUEUE.items():
        run, planned = run_of(runs, name), hours.get(name, model.hours)
        state = state_of(run)
        if state is None:
            print(f"{name}: waiting; {planned:g} h planned")
            continue
        data = yaml.safe_load((run / "config.yaml").read_text())["data"]["init_args"]
        samples = next(state[key]["next_sample"] for key in ("CorruptedPairs", "FolderPairs") if key in state)
        pixels = samples * side_of(data) ** 2 / 1e6
        print(f"{name}: {hours_of(state):.2f} of {planned:g} h, step {state['global_step']}, {pixels:.0f} Mpx")
        for step, values in validations(run):
            print(f"  step {step}: " + ", ".join(f"{key} {value:.2f}" for key, value in values.items()))


def side_of(data: dict[str, Any]) -> int:
    """Returns the side of the squares that the network sees: what `geometry` scales the crops to, or the crops' own."""
    sizes = [each["init_args"]["size"][0] for each in data["geometry"] or [] if "size" in each.get("init_args", {})]
    return int(sizes[-1] if sizes else data["crop_size"])


def validations(run: Path, most: int = 8) -> list[tuple[int, dict[str, float]]]:
    """Returns the steps and PSNRs of a run's validations: the newest, and some before it."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(run))
    events.Reload()
    found: dict[int, dict[str, float]] = {}
    for tag in events.Tags()["scalars"]:
        if tag.startswith("val/psnr") and not tag.startswith("val/psnr_input"):
            for event in events.Scalars(tag):
                found.setdefault(event.step, {})[tag.removeprefix("val/")] = event.value
    steps = sorted(found)
    spread = steps[:: -(-len(steps) // most) or 1]
    return [(step, found[step]) for step in sorted({*spread, *steps[-1:]})]


def hours_asked(items: list[str], parser: argparse.ArgumentParser) -> dict[str, float]:
    """Returns the hours that `--hours` gives; ends the program if one is not NAME=HOURS."""
    found = {}
    for item in items:
        name, _, value = item.partition("=")
        if name not in QUEUE or not value.replace(".", "", 1).isdigit():
            parser.error(f"--hours {item}: give NAME=HOURS, such as denoise=8; the names are {', '.join(QUEUE)}")
        found[name] = float(value)
    return found


def main() -> None:
    """Trains the models, ends one, or prints the status."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--root", nargs="+", help="folders of photographs to train on")
    parser.add_argument("--validation", help="folder of photographs to validate on")
    parser.add_argument("--runs", type=Path, default=Path("runs/shelf"))
    parser.add_argument("--hours", nargs="*", default=[], metavar="NAME=H", help="other hours for a model")
    parser.add_argument("--only", nargs="+", choices=QUEUE, default=list(QUEUE))
    parser.add_argument("--threads", type=int, help="how many cores to use (default: all)")
    parser.add_argument("--status", action="store_true")
    parser.add_argument("--end", choices=QUEUE, metavar="NAME", help="end a copy of this model's run with its decay")
    parser.add_argument("--steps", type=int, default=8000, help="of the decay (default: 8000)")
    parser.add_argument("flags", nargs="*", help="flags of `img2img fit`, after --")
    options = parser.parse_args()
    if options.threads:
        os.environ["OMP_NUM_THREADS"] = str(options.threads)
    hours = hours_asked(options.hours, parser)
    if options.status:
        status(options.runs, hours)
        return
    if not options.root or not options.validation:
        parser.error("--root and --validation say what to train on and what to validate with")
    if options.end:
        print(end(options.end, options))
        return
    for name in options.only:
        planned = hours.get(name, QUEUE[name].hours)
        if hours_of(state_of(run_of(options.runs, name))) < planned:
            train(name, options, planned)
        end(name, options)


if __name__ == "__main__":
    main()
