"""Runtimes: exported files opened, each as a function of one array. Torch is imported for `.pt2` files only."""

from __future__ import annotations

import importlib
import os
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from img2img.errors import UserError
from img2img.exporting.contract import KEY, Contract, read_contract

Floats = NDArray[np.float32]
Session = Callable[[Floats], Floats]
"""Maps 1×C×H×W float32 to 1×C'×(scale·H)×(scale·W) float32."""
INPUT, OUTPUT = "image", "restored"
"""Names of the input and the output in the files."""
PACKAGES = {"onnxruntime": "onnx", "openvino": "openvino", "MNN": "mnn", "onnx": "onnx", "onnxscript": "onnx"}
"""Packages, and the extras that bring them."""


def package(name: str) -> Any:
    """Imports a runtime.

    Raises:
        UserError: If it is not installed; the message says how to install it.
    """
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise UserError(f"{name} is not installed: pip install '.[{PACKAGES[name]}]' in a clone of img2img") from error


def onnx_session(path: Path, threads: int) -> tuple[Session, str | None]:
    """Opens an ONNX file with onnxruntime; returns what runs it, and the contract's text."""
    ort = package("onnxruntime")
    options = ort.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = threads, 3
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")  # beside the threads that read and write
    try:
        session = ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:  # onnxruntime's own exceptions have no common base
        raise UserError(f"{path} is not an ONNX file, or is damaged: {first_line(error)}") from error
    text = session.get_modelmeta().custom_metadata_map.get(KEY)
    return lambda image: np.asarray(session.run([OUTPUT], {INPUT: image})[0]), text


def openvino_session(path: Path, threads: int) -> tuple[Session, str | None]:
    """Opens an OpenVINO IR, computed in float32; returns what runs it, and the contract's text."""
    ov = package("openvino")
    # Without the hint OpenVINO computes in bfloat16 where the hardware has it.
    config = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": threads}
    try:
        core = ov.Core()
        model = core.read_model(str(path))
        text = str(model.get_rt_info([KEY]).value) if model.has_rt_info([KEY]) else None
        compiled = core.compile_model(model, "CPU", config)
    except RuntimeError as error:
        raise UserError(f"{path} is not an OpenVINO model, or is damaged: {first_line(error)}") from error
    return lambda image: np.array(compiled(image)[0]), text


def program_session(path: Path, threads: int) -> tuple[Session, str | None]:
    """Opens a file of `torch.export`, which is to be trusted; returns what runs it, and the contract's text."""
    import torch

    found = {KEY: ""}
    module: Any = torch.export.load(str(path), extra_files=found).module()

    def run(image: Floats) -> Floats:
        with torch.inference_mode():
            output: Floats = module(torch.from_numpy(image)).numpy()
            return output

    return run, found[KEY] or None


def mnn_session(path: Path, threads: int) -> tuple[Session, str | None]:
    """Opens an ONNX file with MNN, which converts it; returns what runs it, and the contract's text.

    `MNN.tools` is never imported: its converter installs a package and reports to a server whenever it is.
    """
    onnx = package("onnx")
    text = {entry.key: entry.value for entry in onnx.load(str(path), load_external_data=False).metadata_props}.get(KEY)
    with _quiet(), tempfile.TemporaryDirectory() as folder:
        package("MNN")
        nn, expr = importlib.import_module("MNN.nn"), importlib.import_module("MNN.expr")
        converted = Path(folder) / "model.mnn"
        words = ["mnnconvert", "-f", "ONNX", "--modelFile", str(path), "--MNNModel", str(converted)]
        importlib.import_module("_tools").mnnconvert([*words, "--bizCode", KEY])
        if not converted.is_file():
            raise UserError(f"MNN cannot run {path}: its converter failed")
        manager = nn.create_runtime_manager(({"backend": "CPU", "precision": "high", "numThread": threads},))
        # With `rearrange`, MNN would leave out Winograd convolutions, and half of its speed.
        module = nn.load_module_from_file(str(converted), [INPUT], [OUTPUT], runtime_manager=manager)

    def run(image: Floats) -> Floats:
        given = expr.const(np.ascontiguousarray(image), image.shape, expr.NCHW)
        output = expr.convert(module.forward([given])[0], expr.NCHW)
        return np.array(output.read(), np.float32).reshape(output.shape)

    return run, text


ENGINES = {"onnxruntime": onnx_session, "mnn": mnn_session}
"""Runtimes of ONNX files, by the name that `--engine` takes."""
OPENERS = {".onnx": onnx_session, ".xml": openvino_session, ".pt2": program_session}
"""What opens an exported file, by its suffix."""


def open_session(path: Path, threads: int, engine: str | None = None) -> tuple[Session, Contract]:
    """Opens an exported file; returns what runs it, and its contract.

    Args:
        path: The file: .onnx, .xml or .pt2.
        threads: How many threads it may use.
        engine: Which of `ENGINES` runs an ONNX file; None for the usual runtime of the file.

    Raises:
        UserError: If a package is missing, or the file is damaged or has no contract.
    """
    opener = OPENERS[path.suffix.lower()] if engine is None else ENGINES[engine]
    session, text = opener(path, threads)
    return session, read_contract(text, path.name)


def first_line(error: BaseException) -> str:
    """Returns the first line of an error's message."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


@contextmanager
def _quiet() -> Iterator[None]:
    """Hides what a library in C++ prints to the standard output, which may be a pipe for an image."""
    import ctypes

    def flush() -> None:
        sys.stdout.flush()
        if os.name == "posix":
            ctypes.CDLL(None).fflush(None)

    flush()
    try:
        kept = os.dup(1)
    except OSError:  # closed
        yield
        return
    with open(os.devnull, "wb") as nothing:
        os.dup2(nothing.fileno(), 1)
    try:
        yield
    finally:
        flush()
        os.dup2(kept, 1)
        os.close(kept)
