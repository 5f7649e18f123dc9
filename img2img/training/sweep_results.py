"""What a sweep has found: its trials as data, as a table and as a picture."""

from __future__ import annotations

import csv
import math
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from img2img.imaging.parts import appearing
from img2img.training.runs import runs_of

if TYPE_CHECKING:
    import optuna
    from matplotlib.axes import Axes

SECONDS = "seconds"
"""Attribute of a trial: how long it has run."""
_STATES = {"COMPLETE": "finished", "PRUNED": "ended early", "FAIL": "failed", "RUNNING": "unfinished"}


@dataclass(frozen=True)
class TrialResult:
    """A run of a sweep.

    Attributes:
        number: Its number, from 0.
        state: `finished`, `ended early` (poorer than the median), `failed` or `unfinished`.
        settings: What was tried, by the options' names.
        value: The best validation so far; None before the first.
        step: The step of that validation.
        seconds: Its time.
        run: Its run's folder; None if it has none.
    """

    number: int
    state: str
    settings: dict[str, Any]
    value: float | None
    step: int | None
    seconds: float
    run: Path | None


@dataclass(frozen=True)
class Sweep:
    """What a sweep has found.

    Attributes:
        folder: Its folder.
        monitor: The metric that it goes by.
        mode: Whether `max` or `min` of it is better.
        trials: The trials, in order.
        logarithmic: The settings that are tried on a logarithmic scale.
    """

    folder: Path
    monitor: str
    mode: str
    trials: list[TrialResult]
    logarithmic: frozenset[str]

    @property
    def best(self) -> TrialResult | None:
        """The finished trial with the best value."""
        sign = 1 if self.mode == "max" else -1
        finished = [trial for trial in self.trials if trial.state == "finished" and trial.value is not None]
        return max(finished, key=lambda trial: sign * float(trial.value or 0.0), default=None)

    @property
    def problems(self) -> list[str]:
        """A line for each trial that failed."""
        failed = [trial.number for trial in self.trials if trial.state == "failed"]
        return [f"trial {number} failed, see {folder_of(self.folder, number) / 'log.txt'}" for number in failed]


def folder_of(sweep: Path, number: int) -> Path:
    """Returns the folder of a trial."""
    return sweep / f"trial-{number:03}"


def results_of(study: optuna.Study, folder: Path, name: str, monitor: str, mode: str) -> Sweep:
    """Returns the trials of a study.

    Args:
        study: The study.
        folder: The sweep's folder.
        name: Name of the runs in the trials' folders.
        monitor: The metric.
        mode: Whether `max` or `min` of it is better.
    """
    found, logarithmic = [], set()
    for trial in study.trials:
        reached = {step: value for step, value in trial.intermediate_values.items() if not math.isnan(value)}
        step = (max if mode == "max" else min)(reached, key=reached.__getitem__, default=None)
        runs = runs_of(folder_of(folder, trial.number), name)
        value = None if step is None else reached[step]
        seconds = trial.user_attrs.get(SECONDS, 0.0)
        state = _STATES.get(trial.state.name, "unfinished")
        run = runs[-1] if runs else None
        found.append(TrialResult(trial.number, state, trial.params, value, step, seconds, run))
        logarithmic |= {option for option, kind in trial.distributions.items() if getattr(kind, "log", False)}
    return Sweep(folder, monitor, mode, found, frozenset(logarithmic))


def write_results(sweep: Sweep) -> None:
    """Writes `trials.csv` and `trials.png`."""
    options = list(dict.fromkeys(option for trial in sweep.trials for option in trial.settings))
    with appearing(sweep.folder / "trials.csv") as part, part.open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file)
        table.writerow(["trial", "state", sweep.monitor, "step", "seconds", *options, "run"])
        for trial in sweep.trials:
            run = "" if trial.run is None else trial.run.relative_to(sweep.folder).as_posix()
            settings = [trial.settings.get(option, "") for option in options]
            table.writerow([trial.number, trial.state, trial.value, trial.step, f"{trial.seconds:.0f}", *settings, run])
    _draw(sweep, options)


def _draw(sweep: Sweep, options: list[str]) -> None:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(4 * (len(options) + 1), 3.6), layout="constrained")
    panels = figure.subplots(1, len(options) + 1, sharey=True, squeeze=False)[0]
    shown = [trial for trial in sweep.trials if trial.value is not None]
    _scatter(panels[0], shown, [trial.number for trial in shown], "trial")
    panels[0].xaxis.get_major_locator().set_params(integer=True)
    panels[0].set_ylabel(sweep.monitor)
    for panel, option in zip(panels[1:], options, strict=True):
        _scatter(panel, shown, [trial.settings[option] for trial in shown], option)
        if option in sweep.logarithmic:
            panel.set_xscale("log")
    if sweep.best is not None:
        settings = ", ".join(f"{option} {_short(value)}" for option, value in sweep.best.settings.items())
        figure.suptitle(f"best: trial {sweep.best.number}, {sweep.monitor} {sweep.best.value:.4g}, with {settings}")
    with appearing(sweep.folder / "trials.png") as part:
        figure.savefig(part, format="png", dpi=120)


def _scatter(panel: Axes, trials: list[TrialResult], places: list[Any], name: str) -> None:
    styles = {"finished": ("C0", "o"), "ended early": ("0.6", "v"), "failed": ("C3", "x"), "unfinished": ("C1", "s")}
    for state, (colour, marker) in styles.items():
        of_state = [i for i, trial in enumerate(trials) if trial.state == state]
        if of_state:
            values = [float(trials[i].value or 0.0) for i in of_state]
            panel.scatter([places[i] for i in of_state], values, color=colour, marker=marker, label=state)
    panel.set_xlabel(name)
    panel.grid(alpha=0.3)
    panel.set_axisbelow(True)
    if len({trial.state for trial in trials}) > 1:
        panel.legend(fontsize="small")


def _short(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)
