"""Draws how the shipped models got better: validation against megapixels, from the event files of their runs.

    python -m benchmarks.shelf_curves [denoise …] [--runs runs/shelf] [--output docs/pictures/curves]

The runs are those of `train_shelf.py`. Each ended copy of a run, with its decay, is a line of its own. Points are PSNR
of averaged weights on crops of the validation photographs, so that they are not the figures of the cards.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import yaml
from matplotlib.figure import Figure

from benchmarks.train_shelf import QUEUE, run_of, side_of, validations

METRICS = ("psnr_hole", "psnr_chroma", "psnr")
"""The first of them that a model logs is drawn."""


@dataclass(frozen=True)
class Curve:
    """The validations of a run.

    Attributes:
        name: What the run is.
        megapixels: Pixels trained on before each validation, from 0 in the run that it is a copy of.
        values: PSNR in dB, one for each kind of corruption, by name.
    """

    name: str
    megapixels: list[float]
    values: dict[str, list[float]]


def curves_of(runs: Path, name: str) -> Iterator[Curve]:
    """Yields the curve of a model's long run, then those of its ended copies, without runs that never validated."""
    run = run_of(runs, name)
    copies = sorted((runs / f"{name}-ended").glob(f"*/{run.parent.name}/0"))
    if run.is_dir() and (curve := curve_of(run, "constant rate")) is not None:
        yield curve
    for copy in copies:
        start = int(copy.parent.parent.name.partition("+")[0])
        before = start * step_megapixels(run) if start else 0.0
        if (curve := curve_of(copy, f"decay {copy.parent.parent.name}", start, before)) is not None:
            yield curve


def step_megapixels(run: Path) -> float:
    """Returns the megapixels of one of a run's batches."""
    data = yaml.safe_load((run / "config.yaml").read_text())["data"]["init_args"]
    return float(data["batch_size"] * side_of(data) ** 2 / 1e6)


def curve_of(run: Path, what: str, start: int = 0, before: float = 0.0) -> Curve | None:
    """Returns the curve of a run's folder; None if it has no validation.

    Args:
        run: The folder.
        what: What the run is.
        start: The step that it goes on from.
        before: Megapixels trained on before that step, maybe in other batches.
    """
    found = validations(run, most=sys.maxsize)
    if not found:
        return None
    names = found[0][1]
    metric = next(metric for metric in METRICS if metric in names)
    kinds = [name for name in names if name.startswith(f"{metric}/")] or [metric]
    each = step_megapixels(run)
    values = {kind: [row[kind] for _, row in found] for kind in kinds}
    return Curve(what, [before + (step + 1 - start) * each for step, _ in found], values)


def draw(name: str, curves: list[Curve]) -> Figure:
    """Returns the picture: a panel for each kind of corruption, a line for each run."""
    kinds = list(dict.fromkeys(kind for curve in curves for kind in curve.values))
    figure = Figure(figsize=(3.4 * len(kinds) + 0.6, 3), layout="constrained")
    for panel, kind in zip(figure.subplots(1, len(kinds), squeeze=False)[0], kinds, strict=True):
        for curve in curves:
            if kind in curve.values:
                panel.plot(curve.megapixels, curve.values[kind], marker="o", markersize=3, label=curve.name)
        panel.set_title(kind, fontsize=10)
        panel.set_xlabel("megapixels")
        panel.grid(alpha=0.3)
    figure.axes[0].set_ylabel("PSNR, dB")
    figure.axes[0].legend(fontsize=8)
    figure.suptitle(f"{name}: validation")
    return figure


def main() -> None:
    """Draws the models that are asked for, and says where the pictures are."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(QUEUE)} (default: all)")
    parser.add_argument("--runs", type=Path, default=Path("runs/shelf"))
    parser.add_argument("--output", type=Path, default=Path("docs/pictures/curves"))
    options = parser.parse_args()
    if unknown := set(options.names) - QUEUE.keys():
        parser.error(f"no model {', '.join(sorted(unknown))}: the models are {', '.join(QUEUE)}")
    for name in options.names or QUEUE:
        curves = list(curves_of(options.runs, name))
        if not curves:
            print(f"{name}: no validation under {run_of(options.runs, name)}")
            continue
        options.output.mkdir(parents=True, exist_ok=True)
        draw(name, curves).savefig(options.output / f"{name}.png", dpi=110)
        print(options.output / f"{name}.png")


if __name__ == "__main__":
    main()
