"""Other runtimes for our models: exported into the cache, tried against torch on a photograph, and chosen by speed."""

from __future__ import annotations

import hashlib
import importlib.metadata
import importlib.util
import json
import os
import platform
import statistics
import time
import warnings
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from img2img.data.cache import cache_folder
from img2img.errors import UserError
from img2img.exporting.contract import digest_of
from img2img.exporting.core import contract_of
from img2img.exporting.exported_task import open_exported
from img2img.exporting.peak import measured_bytes
from img2img.exporting.sessions import ENGINES
from img2img.exporting.writing import write_onnx
from img2img.imaging.files import read_finite, to_channels
from img2img.imaging.parts import appearing
from img2img.imaging.values import to_float
from img2img.shipped import shipped_folder
from img2img.tasks import Colorization, Restoration
from img2img.tasks.colour import luma
from img2img.tasks.metrics import as_8_bit, psnr
from img2img.version import __version__

NEEDS = {"onnxruntime": ("onnxruntime", "onnx", "onnxscript"), "mnn": ("MNN", "onnx", "onnxscript")}
"""Packages by engine; onnx and onnxscript write the file."""
SAME, COST = 0.999, 0.001
"""What an engine must reach: the fraction of 8-bit values that equal torch's, and the most dB that it may cost."""
FASTER = 1.05
"""How much faster than torch an engine must be to be taken: less is noise of the measurement."""
TILE = (384, 512)
ROUNDS = 3
KEPT = 16
"""How many exported models stay in the cache."""


@dataclass(frozen=True)
class Trial:
    """How an engine did on a photograph.

    Attributes:
        same: Fraction of the values that round to the same 8 bits as torch's in float32.
        cost: How many dB PSNR it loses against torch, with the photograph as ground truth.
        largest: Largest difference to torch of a value in [0, 1].
        speed: Megapixels per second.
        bytes_per_pixel: Memory that it takes.
    """

    same: float
    cost: float
    largest: float
    speed: float
    bytes_per_pixel: float

    @property
    def passes(self) -> bool:
        """Whether it does what torch does."""
        return self.same >= SAME and self.cost <= COST


def on_engine(task: Restoration, engine: str | None, precision: str = "32-true", cpu: bool = True) -> Restoration:
    """Returns a task as it runs on an engine: itself, or its exported file.

    Args:
        task: The task, on the CPU.
        engine: Name of an engine; `auto` for the fastest that does what torch does; None for torch.
        precision: In which torch would compute, by Lightning's name.
        cpu: Whether torch would compute on the CPU; `auto` leaves GPUs to torch.

    Raises:
        UserError: If there is no such engine, it is not installed, the network cannot be exported, or the engine's
            result differs from torch's.
    """
    if engine in (None, "torch") or (engine == "auto" and not cpu):
        return task
    if engine != "auto":
        assert engine is not None
        _check_installed(engine)
        file, trials = _tried(task, [engine], precision)
        found = trials[engine]
        if not found.passes:
            raise UserError(
                f"--engine {engine} does something else than torch: {found.same:.2%} of the values are the same, and "
                f"it costs {found.cost:.4f} dB; leave out --engine"
            )
        return open_exported(file, engine, found.bytes_per_pixel)
    installed = [name for name in ENGINES if not missing(name)]
    if not installed:
        return task
    try:
        file, trials = _tried(task, installed, precision)
    except UserError as error:  # torch runs every network
        warnings.warn(f"--engine auto takes torch: {error}", stacklevel=2)
        return task
    best = max((name for name in installed if trials[name].passes), key=lambda name: trials[name].speed, default=None)
    if best is None or trials[best].speed < FASTER * trials["torch"].speed:
        return task
    return open_exported(file, best, trials[best].bytes_per_pixel)


def missing(engine: str) -> list[str]:
    """Returns the packages that an engine lacks."""
    return [name for name in NEEDS[engine] if importlib.util.find_spec(name) is None]


def _check_installed(engine: str) -> None:
    if engine not in ENGINES:
        raise UserError(f"--engine {engine} is not an engine; there are torch, {', '.join(ENGINES)} and auto")
    if lacking := missing(engine):
        extra = {"onnxruntime": "onnx"}.get(engine, engine)
        raise UserError(f"--engine {engine} needs {lacking[0]}: pip install '.[{extra}]' in a clone of img2img")


def engines_folder() -> Path:
    """Returns the folder of exported models, beside the cache of decoded images."""
    return cache_folder().parent / "engines"


def _tried(task: Restoration, engines: list[str], precision: str) -> tuple[Path, dict[str, Trial]]:
    """Returns the exported file, and the trials of torch and these engines; both are kept in the cache."""
    about = [__version__, torch.__version__, *map(_version, ("onnx", "onnxscript")), repr(task.recipe)]
    key = digest_of(task, repr(about).encode())[:32]
    file = engines_folder() / f"{key}.onnx"
    if not file.is_file():
        _make_room(file.parent)
        with appearing(file) as part:
            write_onnx(task, contract_of(task, "float32"), part, "float32")
    where = [_processor(), precision, *(f"{name} {_version(NEEDS[name][0])}" for name in engines)]
    known = file.with_name(f"{key}-{hashlib.sha256(repr(where).encode()).hexdigest()[:16]}.json")
    try:
        return file, {name: Trial(**found) for name, found in json.loads(known.read_text(encoding="utf-8")).items()}
    except (OSError, ValueError, TypeError, AttributeError):  # not there, or from another version
        pass
    trials = try_engines(task, file, engines, precision)
    with appearing(known) as part:
        part.write_text(json.dumps({name: asdict(found) for name, found in trials.items()}), encoding="utf-8")
    return file, trials


@torch.inference_mode()
def try_engines(task: Restoration, file: Path, engines: list[str], precision: str) -> dict[str, Trial]:
    """Runs torch and engines in turn on a photograph; returns how each did.

    Args:
        task: The task, on the CPU.
        file: The task as ONNX.
        engines: Names of engines that are installed.
        precision: In which torch is timed; results are compared with float32.
    """
    image, mask, clean = photograph(task)
    run: dict[str, Callable[[], Tensor]] = {"torch": lambda: _in(precision, task, image, mask)}
    memory = {"torch": task.bytes_per_pixel}
    for name in engines:
        contract = open_exported(file, name).contract
        memory[name] = measured_bytes(file, contract, name)
        opened = open_exported(file, name, memory[name])
        run[name] = lambda opened=opened: opened.restore_tile(image, mask)  # type: ignore[misc]
    correct = task.restore_tile(image, mask)
    outputs = {name: call() for name, call in run.items()}  # and to warm up
    seconds: dict[str, list[float]] = {name: [] for name in run}
    for _ in range(ROUNDS):
        for name, call in run.items():
            began = time.perf_counter()
            call()
            seconds[name].append(time.perf_counter() - began)
    megapixels = image.shape[-1] * image.shape[-2] / 1e6
    return {
        name: Trial(
            float((as_8_bit(output) == as_8_bit(correct)).float().mean()),
            max(0.0, psnr(as_8_bit(correct), clean) - psnr(as_8_bit(output), clean)),
            float((output - correct).abs().max()),
            megapixels / statistics.median(seconds[name]),
            memory[name],
        )
        for name, output in outputs.items()
    }


def photograph(task: Restoration) -> tuple[Tensor, Tensor | None, Tensor]:
    """Returns a real tile for a task: the input, the mask if it takes one, and the photograph that is wanted."""
    folder = shipped_folder("starter")
    assert folder is not None
    path = min((folder / "val").glob("*.png"))
    pixels = to_float(to_channels(read_finite(path).pixels, 3))
    side = 8 * task.scale
    height, width = (min(most, given) // side * side for most, given in zip(TILE, pixels.shape, strict=False))
    clean = torch.from_numpy(np.ascontiguousarray(pixels[:height, :width])).permute(2, 0, 1)[None]
    gray = isinstance(task, Colorization) or getattr(task, "colourises", False)
    image = luma(clean) if gray else clean
    if task.scale > 1:
        image = torch.nn.functional.interpolate(image, scale_factor=1 / task.scale, mode="area")
    if not task.needs_mask:
        return image, None, clean
    holes = torch.rand(1, 1, *image.shape[-2:], generator=torch.Generator().manual_seed(0)) < 0.3
    return image, holes.float(), clean


def _in(precision: str, task: Restoration, image: Tensor, mask: Tensor | None) -> Tensor:
    mixed = torch.autocast("cpu", torch.bfloat16) if precision.startswith("bf16") else nullcontext()
    with mixed:
        return task.restore_tile(image, mask)


def _make_room(folder: Path) -> None:
    """Removes the oldest models, with their trials, so that `KEPT` remain with the next one."""
    files = sorted(folder.glob("*.onnx"), key=lambda path: path.stat().st_mtime)
    for file in files[: max(0, len(files) - KEPT + 1)]:
        for each in folder.glob(f"{file.stem}*"):
            each.unlink(missing_ok=True)


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "none"


def _processor() -> str:
    """Returns what tells one kind of processor from another, and a restriction to fewer of its instructions."""
    known: Any = torch.backends.cpu.get_cpu_capability()
    return f"{platform.machine()} {platform.processor()} {known} {os.environ.get('ONEDNN_MAX_CPU_ISA', '')}"
