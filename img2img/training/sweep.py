"""A sweep: many runs of a config with other settings, chosen by Optuna, and what came of them."""

from __future__ import annotations

import importlib.util
import inspect
import json
import math
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from tqdm import tqdm

from img2img.callbacks.checkpoints import BestCheckpoint
from img2img.callbacks.trial import PRUNED, STUDY, TrialAddress
from img2img.errors import UserError
from img2img.inference.interruption import Interruptible
from img2img.training.lock import alone_in
from img2img.training.preflight import check, find_config, read_config
from img2img.training.search_space import as_flags, search_space
from img2img.training.sweep_results import SECONDS, Sweep, folder_of, results_of, write_results

if TYPE_CHECKING:
    import optuna

_SEARCH = "search"
"""Attribute of a study: what it searches, which must not change on the way."""
_REFUSED = 2
"""Exit code of `fit` for what is wrong in its arguments."""


@dataclass(frozen=True)
class _Trials:
    """How the trials of a sweep are run."""

    study: optuna.Study
    storage: str
    folder: Path
    arguments: list[str]
    name: str
    pruning: bool


def sweep(
    config: str,
    settings: Sequence[str],
    trials: int = 20,
    output: str | None = None,
    seed: int = 0,
    no_pruning: bool = False,
    flags: Sequence[str] = (),
    progress: bool = False,
) -> Sweep:
    """Trains a config many times with other settings, and says which are best.

    Each trial is a run of `img2img fit` in a process of its own, on the same sample stream. Optuna chooses its settings
    (TPE; Bergstra et al. 2011) from what the trials before reached by `best.monitor` of the config, and ends early
    those whose validation is below the median of the others. A sweep that was stopped or killed continues with the
    same call, also within a trial; with more trials, it goes on where it had ended.

    Args:
        config: The YAML, here or a shipped one.
        settings: What to try: NAME=log:1e-4..3e-3, NAME=float:0..0.5, NAME=int:2..8, NAME=logint:8..256 or
            NAME=choice:A,B; give it several times for several settings.
        trials: How many runs in all.
        output: Folder of the sweep; without one, runs/CONFIG/sweep.
        seed: Seed of what is tried; the seed of training is that of the config.
        no_pruning: Trains each trial to its end.
        flags: More flags of `img2img fit`, alike for all trials.
        progress: Whether to show a bar.

    Returns:
        The trials. Their table is in `trials.csv`, and a picture in `trials.png`, both in the sweep's folder.

    Raises:
        UserError: If a setting is wrong, Optuna is missing, the folder holds another sweep, or `fit` refuses a trial.
    """
    missing = [package for package in ("optuna", "matplotlib") if importlib.util.find_spec(package) is None]
    if missing:
        raise UserError(f"a sweep needs {' and '.join(missing)}: pip install '.[sweep]' in a clone of img2img")
    if trials < 1:
        raise UserError(f"--trials {trials} must be at least 1")
    space = search_space(settings)
    fixed = {flag.lstrip("-").partition("=")[0] for flag in flags}
    if reserved := sorted(fixed & {*space, "ckpt_path", "resume", "trainer.default_root_dir"}):
        raise UserError(f"--{reserved[0]} is set by the sweep, and cannot be given as well")
    arguments = ["--config", config, *flags]
    name = check("fit", arguments).name
    folder = Path(output or f"runs/{name}/sweep").expanduser()
    folder.mkdir(parents=True, exist_ok=True)
    monitor, mode = _objective(config, flags)
    text = find_config(config).read_text(encoding="utf-8")
    search = {"config": text, "flags": list(flags), "set": list(settings), "monitor": monitor, "mode": mode}
    with Interruptible(), alone_in(folder):
        study, storage = _open(folder, search, seed)
        runs = _Trials(study, storage, folder, arguments, name, not no_pruning)
        done = sum(trial.state.is_finished() for trial in study.trials)
        found = _record(runs, monitor, mode)
        with tqdm(total=trials, initial=done, desc="Trials", unit="trial", disable=not progress) as bar:
            while (number := _next(study, space, trials, seed)) is not None:
                try:
                    _run(runs, number)
                finally:
                    found = _record(runs, monitor, mode)
                bar.update()
                if found.best is not None:
                    bar.set_postfix_str(f"best {monitor} {found.best.value:.4g} of trial {found.best.number}")
    return found


def _record(runs: _Trials, monitor: str, mode: str) -> Sweep:
    """Writes the table and the picture, and returns the trials so far."""
    found = results_of(runs.study, runs.folder, runs.name, monitor, mode)
    write_results(found)
    return found


def _objective(config: str, flags: Sequence[str]) -> tuple[str, str]:
    """Returns the metric that `best.ckpt` goes by, and whether `max` or `min` is better."""
    defaults = {name: part.default for name, part in inspect.signature(BestCheckpoint).parameters.items()}
    given = defaults | (read_config(find_config(config)).get("best") or {})
    for flag, following in zip(flags, [*flags[1:], ""], strict=True):
        option, equals, value = flag.partition("=")
        if option.startswith("--best."):
            given[option.removeprefix("--best.")] = value if equals else following
    return str(given["monitor"]), str(given["mode"])


def _open(folder: Path, search: dict[str, Any], seed: int) -> tuple[optuna.Study, str]:
    """Returns the study in a folder, a new one if there is none, and the address of its storage."""
    import optuna
    from sqlalchemy.engine import URL

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    address = URL.create("sqlite", database=str((folder / "study.db").resolve())).render_as_string()
    search = json.loads(json.dumps(search | {"seed": seed}))
    directions = optuna.study.StudyDirection
    direction = directions.MAXIMIZE if search["mode"] == "max" else directions.MINIMIZE
    study = optuna.create_study(study_name=STUDY, storage=address, direction=direction, load_if_exists=True)
    before = study.user_attrs.get(_SEARCH)
    if before not in (None, search):
        if any(folder.rglob("*.ckpt")):
            other = ", ".join(sorted(key for key in search if before.get(key) != search[key]))
            raise UserError(
                f"{folder} holds a sweep with another {other}; give another --output, or remove that folder"
            )
        optuna.delete_study(study_name=STUDY, storage=address)  # it has not trained anything, perhaps for a wrong flag
        study = optuna.create_study(study_name=STUDY, storage=address, direction=direction)
    study.set_user_attr(_SEARCH, search)
    return study, address


def _next(study: optuna.Study, space: dict[str, Any], trials: int, seed: int) -> int | None:
    """Returns the number of the trial to run: one that was interrupted, else a new one; None when all have ended."""
    import optuna

    for trial in study.trials:
        if not trial.state.is_finished():
            return int(trial.number)
    number = len(study.trials)
    if number >= trials:
        return None
    # A sampler for each trial: one that lives on would draw other numbers after the sweep was continued.
    (state,) = np.random.SeedSequence([seed, number]).generate_state(1).tolist()
    study.sampler = optuna.samplers.TPESampler(seed=state)
    return int(study.ask(space).number)


def _run(runs: _Trials, number: int) -> None:
    """Runs a trial, or continues it, and tells the study what came of it.

    Raises:
        KeyboardInterrupt: If a signal has stopped it; it is continued by the next sweep.
        UserError: If `fit` refuses its arguments.
    """
    from optuna.trial import TrialState

    study, trial = runs.study, runs.study.trials[number]
    if PRUNED not in trial.user_attrs:  # else it was ended early just before the sweep was killed
        flags, log = as_flags(trial.params), folder_of(runs.folder, number) / "log.txt"
        code = _fit(runs, number, flags, log)
        trial = study.trials[number]
        if code == _REFUSED:
            said = log.read_text(encoding="utf-8", errors="replace").splitlines()
            errors = [line.partition(": error: ")[2] for line in said if ": error: " in line]
            raise UserError(f"trial {number} ({' '.join(flags)}) cannot run: {errors[-1] if errors else f'see {log}'}")
        if code:
            study.tell(number, state=TrialState.FAIL)
            return
    if PRUNED in trial.user_attrs:
        study.tell(number, state=TrialState.PRUNED)
        return
    reached = [value for value in trial.intermediate_values.values() if not math.isnan(value)]
    best = (max if study.direction.name == "MAXIMIZE" else min)(reached, default=None)
    study.tell(number, best, TrialState.FAIL if best is None else TrialState.COMPLETE)


def _fit(runs: _Trials, number: int, flags: list[str], log: Path) -> int:
    """Trains a trial in a process of its own, or continues it, and returns the exit code."""
    log.parent.mkdir(exist_ok=True)
    command = [sys.executable, "-P", "-m", "img2img", "fit", *runs.arguments, *flags, "--resume=auto"]
    command += [f"--trainer.default_root_dir={log.parent}", "--trainer.enable_progress_bar=false"]
    environment = {name: value for name, value in os.environ.items() if name != "IMG2IMG_RUN"}
    environment |= TrialAddress(runs.storage, number, runs.pruning, os.getpid()).as_environment()
    began = time.monotonic()
    try:
        with log.open("ab") as file:
            return _wait(subprocess.Popen(command, stdout=file, stderr=file, env=environment, start_new_session=True))
    finally:
        trial = runs.study.trials[number]
        seconds = trial.user_attrs.get(SECONDS, 0.0) + time.monotonic() - began
        runs.study._storage.set_trial_user_attr(trial._trial_id, SECONDS, seconds)


def _wait(process: subprocess.Popen[bytes]) -> int:
    """Waits for a trial; Ctrl-C and SIGTERM end it after it has saved its step, a second one ends it at once."""
    try:
        return process.wait()
    except KeyboardInterrupt:
        try:
            process.terminate()
            process.wait()
        except KeyboardInterrupt:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
        raise
