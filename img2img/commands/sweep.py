"""`img2img sweep`: trains a config many times with other settings, and says which are best."""

from __future__ import annotations

from collections.abc import Sequence

from img2img.commands.carry_out import carry_out
from img2img.signature_parser import parser_of
from img2img.training.search_space import as_flags
from img2img.training.sweep import sweep
from img2img.training.sweep_results import Sweep


def run(command: str, arguments: Sequence[str]) -> None:
    """Runs the trials, and prints the best one; other options are given to `img2img fit`."""
    parser = parser_of(sweep, command, positional=(), names={"settings": "set"}, without=("flags",))
    options, flags = parser.parse_known_args(list(arguments))
    given = vars(options) | {"flags": flags}
    carry_out(sweep, given, describe)


def describe(found: Sweep) -> list[str]:
    """Returns the lines that say what came of a sweep."""
    where = f"table {found.folder / 'trials.csv'}, picture {found.folder / 'trials.png'}"
    if found.best is None:
        return [f"No trial has finished; {where}"]
    settings = " ".join(as_flags(found.best.settings))
    early = sum(trial.state == "ended early" for trial in found.trials)
    counted = f"{len(found.trials)} trials" + (f", {early} of them ended early" if early else "")
    return [
        f"{counted}: {where}",
        f"Best: trial {found.best.number}, {found.monitor} {found.best.value:.4g} at step {found.best.step}",
        f"  {settings}",
        f"  {found.best.run}",
    ]
