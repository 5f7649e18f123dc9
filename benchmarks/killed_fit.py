"""Kills `img2img fit` (SIGKILL) 20 times and fills its disk 5 times; each run goes on, and must end as if nothing was.

    python -m benchmarks.killed_fit [--kills 20] [--disks 5] [--seed 0]

A small network trains for 60 steps on the starter photographs, validates every 20 and saves every 10. One undisturbed
run shows what should come out, a second one how long it takes. Then runs are killed: at least a quarter of the kills
hit while a checkpoint is being written (its hidden file has appeared, and is left behind), three hit in the last
validation, the others hit at moments drawn uniformly from the length of a run. A killed run goes on with `--ckpt_path
last`, or with `--resume auto` if it had no checkpoint yet, and may be killed again until it finishes. A finished run
must hold the same weights, averages, optimizer state and step (by SHA-256) in last.ckpt and best.ckpt, and the same
grid.png, as the undisturbed one. For full disks, the runs' folder is a small tmpfs with room for a random part of what
a run writes (root only): the run must end with one line and code 1, leave whole checkpoints and no hidden file, and
must go on when there is room. Prints one row each; the exit code is 1 if anything was wrong.
"""

from __future__ import annotations

import argparse
import hashlib
import multiprocessing
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer

from img2img.training.runs import is_whole
from tests.commands.processes import start

STEPS = 60
FIT = [
    *("fit", "--config=denoise.yaml", "--model.network.init_args.channels=[16,32]", "--data.crop_size=64"),
    *("--model.network.init_args.blocks=1", "--data.batch_size=2", "--data.num_workers=0", "--data.val_crop_size=64"),
    *(f"--trainer.max_steps={STEPS}", "--trainer.val_check_interval=20", "--last.every_n_steps=10"),
    *("--trainer.accelerator=cpu", "--trainer.precision=32-true", "--trainer.enable_progress_bar=false"),
    "--trainer.callbacks+=benchmarks.killed_fit.Diary",
]
NEEDED = 3.0
"""Megabytes that a run writes at its peak."""
FILES = ("last.ckpt", "best.ckpt", "grid.png")


class Diary(Callback):
    """Writes steps and validations into the run's folder, so that a killed run shows how far it had come."""

    def _write(self, trainer: Trainer, what: str) -> None:
        with open(Path(trainer.default_root_dir) / "diary", "a") as file:
            file.write(f"{what} {trainer.global_step}\n")

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Notes where training begins."""
        self._write(trainer, "begins at")

    def on_train_batch_end(self, trainer: Trainer, *args: Any, **kwargs: Any) -> None:
        """Notes a step."""
        self._write(trainer, "step")

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Notes that a validation begins."""
        self._write(trainer, "validates")

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Notes that a validation has ended."""
        self._write(trainer, "validated")


def main() -> None:
    """Kills runs and fills disks, and prints the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--disks", type=int, default=5)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    moments = random.Random(options.seed)
    multiprocessing.get_context("forkserver").set_forkserver_preload(["img2img.training.cli"])
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        for _ in range(2):  # the first run also decodes the photographs and waits for the imports
            shutil.rmtree(root / "whole", ignore_errors=True)
            began = time.monotonic()
            if wait(fit(root / "whole")) != 0:
                raise RuntimeError((root / "log").read_text())
            length = time.monotonic() - began
        expected = fingerprints(run_in(root / "whole"))
        print(f"undisturbed: {length:.1f} s; " + ", ".join(f"{name} {digest}" for name, digest in expected.items()))
        wrong = kill(root / "runs", options.kills, length, expected, moments)
        wrong += fill(root / "small", options.disks, expected, moments)
    print("\n".join(wrong) or "every run ended as if nothing had happened")
    sys.exit(bool(wrong))


def fit(root: Path, *flags: str) -> Any:
    """Starts a training whose runs lie in a folder; what it prints goes into a file beside it."""
    return start([*FIT, f"--trainer.default_root_dir={root}", *flags], root.parent / "log")


def go_on(root: Path) -> tuple[Any, str]:
    """Continues a run; returns the process and the option that did it."""
    saved = any((run_in(root) / name).exists() for name in ("last.ckpt", "last.previous.ckpt", "best.ckpt"))
    option = "--ckpt_path=last" if saved else "--resume=auto"
    return fit(root, option), option


def wait(process: Any) -> int:
    """Returns the exit code of a process."""
    process.join()
    return int(process.exitcode)


def run_in(root: Path) -> Path:
    """Returns the folder of the only run."""
    return root / "denoise" / "0"


def diary(root: Path) -> list[str]:
    """Returns what a run has noted."""
    file = run_in(root) / "diary"
    return file.read_text().splitlines() if file.exists() else []


def fingerprints(run: Path) -> dict[str, str]:
    """Returns a digest of what a finished run is to hold, for each of its files."""
    found = {}
    for name in FILES:
        digest = hashlib.sha256()
        if name.endswith(".ckpt"):
            saved = torch.load(run / name, weights_only=True)
            parts = ("state_dict", "current_model_state", "averaging_state", "optimizer_states", "global_step")
            for path, value in leaves({part: saved.get(part) for part in parts}):
                digest.update(path.encode())
                digest.update(value.numpy().tobytes() if isinstance(value, torch.Tensor) else repr(value).encode())
        else:
            digest.update((run / name).read_bytes())
        found[name] = digest.hexdigest()[:12]
    return found


def leaves(tree: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Yields the values in nested dictionaries and lists, each with its place."""
    if isinstance(tree, dict | list | tuple):
        for key, value in tree.items() if isinstance(tree, dict) else enumerate(tree):
            yield from leaves(value, f"{path}/{key}")
    else:
        yield path, tree


def flaws(root: Path, expected: dict[str, str]) -> list[str]:
    """Returns what is wrong with a finished run."""
    try:
        found = fingerprints(run_in(root))
    except OSError as error:
        return [str(error)]
    wrong = [f"{name} differs" for name in expected if found[name] != expected[name]]
    return wrong + [f"{path.name} is left" for path in run_in(root).glob(".*.part")]


def kill(root: Path, kills: int, length: float, expected: dict[str, str], moments: random.Random) -> list[str]:
    """Kills and continues runs; returns what was wrong."""
    kinds = ["writing"] * -(-kills // 4) + ["last validation"] * min(3, kills)
    kinds += ["random"] * (kills - len(kinds))
    moments.shuffle(kinds)
    wrong: list[str] = []
    rows: list[list[str]] = []
    killed, fits, option = 0, 0, ""  # kills of the current run
    print(" kill  when             after                 half a file  went on with      the run in the end")
    while kinds or killed:
        if killed:
            process, option = go_on(root)
            rows[-1].append(option)
        else:
            process = fit(root)
        if kinds and (kind := strike(kinds[0], process, root, length, moments)):
            if kind in kinds:
                kinds.remove(kind)
            killed += 1
            half = "left" if any(run_in(root).glob(".*.part")) else "none"
            rows.append([kind, (diary(root) or ["before training"])[-1], half])
            continue
        code = wait(process)
        found = flaws(root, expected) if code == 0 else [f"exit code {code}: {log(root)}"]
        for number in range(len(rows) - killed, len(rows)):
            first, *others = rows[number]
            when, half, how = others
            print(f"{number + 1:5}  {first:15}  {when:20}  {half:11}  {how:16}  {'; '.join(found) or 'identical'}")
        wrong += found
        fits += killed > 0
        killed = 0
        shutil.rmtree(root, ignore_errors=True)
    print(f"killed {len(rows)} times; {fits} runs were continued to their end")
    return wrong


def strike(kind: str, process: Any, root: Path, length: float, moments: random.Random) -> str | None:
    """Kills a process at a moment of a kind; returns the kind that it really was, or None if the process had ended."""
    nth, delay, until = moments.randint(1, 6), moments.uniform(0, 0.02), time.monotonic() + moments.uniform(0, length)
    old = set(hidden(root))  # a half file that an earlier kill has left
    seen: set[str] = set()
    before = len(diary(root))
    while process.is_alive():
        if kind == "random" and time.monotonic() > until:
            break
        if kind == "writing":
            seen |= hidden(root) - old
            if len(seen) >= nth:
                break
        if kind == "last validation" and f"validates {STEPS}" in diary(root)[before:]:
            time.sleep(delay)
            break
        time.sleep(0.0003)
    if process.is_alive():
        os.kill(process.pid, signal.SIGKILL)
        process.join()
    if process.exitcode != -signal.SIGKILL:
        return None
    hit = kind == "random" or (hidden(root) - old if kind == "writing" else f"validated {STEPS}" not in diary(root))
    return kind if hit else "random"


def hidden(root: Path) -> set[str]:
    """Returns the names of the files that are being written, or were when a run was killed."""
    run = run_in(root)
    return {name for name in os.listdir(run) if name.endswith(".part")} if run.exists() else set()


def log(root: Path) -> str:
    """Returns the end of what runs have printed."""
    return (root.parent / "log").read_text()[-800:]


def fill(root: Path, disks: int, expected: dict[str, str], moments: random.Random) -> list[str]:
    """Fills the disk under runs, and continues them with more room; returns what was wrong."""
    root.mkdir()
    wrong: list[str] = []
    for number in range(1, disks + 1):
        megabytes = moments.uniform(0.05, 0.98) * NEEDED
        mount = ["mount", "-t", "tmpfs", "-o", f"size={int(megabytes * 1e6)}", "tmpfs", str(root)]
        if subprocess.run(mount, capture_output=True, check=False).returncode:
            print("no full disks: this user may not mount a tmpfs")
            break
        try:
            (root.parent / "log").unlink(missing_ok=True)
            code = wait(fit(root))
            said = [line for line in (root.parent / "log").read_text().splitlines() if "no room left" in line]
            kept = [path for path in run_in(root).glob("*.ckpt")]
            found = [f"{path.name} is damaged" for path in kept if not is_whole(path)]
            found += [] if code == 1 and len(said) == 1 else [f"exit code {code}: {log(root)}"]
            found += ["a traceback"] if "Traceback" in (root.parent / "log").read_text() else []
            found += [f"{name} is left" for name in hidden(root)]
            print(f"{number:5}  {megabytes:6.2f} MB  ended after {diary(root)[-1:] or 'nothing'}, with", end=" ")
            print(", ".join(sorted(path.name for path in kept)) or "no checkpoint", end=": ", flush=True)
            subprocess.run(["mount", "-o", "remount,size=500M", str(root)], check=True)
            code = wait(fit(root, "--resume=auto"))
            found += flaws(root, expected) if code == 0 else [f"exit code {code}: {log(root)}"]
            print("; ".join(found) or "went on, identical")
            wrong += found
        finally:
            subprocess.run(["umount", str(root)], check=False)
    return wrong


if __name__ == "__main__":
    main()
