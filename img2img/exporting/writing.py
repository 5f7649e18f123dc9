"""Writes a task as ONNX, as a program of `torch.export`, or as an OpenVINO IR, with its contract inside."""

from __future__ import annotations

import contextlib
import io
import logging
import shutil
import tempfile
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch

from img2img.errors import UserError
from img2img.exporting.contract import KEY, Contract
from img2img.exporting.core import Core, Precision
from img2img.exporting.sessions import INPUT, OUTPUT, first_line, package
from img2img.imaging.parts import publish
from img2img.tasks import Task

OPSET = 18
LARGEST = 1 << 20
"""The most rows or columns of an image, for the exporter."""


def write_onnx(task: Task, contract: Contract, path: Path, precision: Precision) -> None:
    """Writes an ONNX file.

    Raises:
        UserError: If the network cannot be exported, or the packages `onnx` and `onnxscript` are missing.
    """
    onnx = package("onnx")
    package("onnxscript")
    program = _program(task, contract, precision)
    with _saying("ONNX", task), _silence():
        exported: Any = torch.onnx.export(
            program, (), dynamo=True, opset_version=OPSET, input_names=[INPUT], output_names=[OUTPUT], verbose=False
        )
        model = exported.model_proto
    _forget_source(model.graph)
    del model.metadata_props[:]
    model.metadata_props.add(key=KEY, value=contract.to_json())
    model.producer_name, model.doc_string = "img2img", ""
    onnx.save(model, str(path))


def write_program(task: Task, contract: Contract, path: Path, precision: Precision) -> None:
    """Writes a file that `torch.export.load` reads.

    Raises:
        UserError: If the network cannot be exported.
    """
    program = _program(task, contract, precision)
    with _saying("torch.export", task), _silence():
        torch.export.save(program, str(path), extra_files={KEY: contract.to_json()})


def write_openvino(task: Task, contract: Contract, path: Path, precision: Precision) -> None:
    """Writes an OpenVINO IR: the file, and the weights in a file beside it that ends in .bin.

    In float16, only the weights are stored so: the runtime chooses the type in which it computes.

    Raises:
        UserError: If the network cannot be exported, or a package is missing.
    """
    ov = package("openvino")
    with tempfile.TemporaryDirectory() as folder, _saying("OpenVINO", task):
        file = Path(folder) / "model.onnx"
        write_onnx(task, contract, file, "float32")
        # Not `openvino.convert_model`, which reports to a server.
        model = ov.Core().read_model(str(file))
        model.set_rt_info(contract.to_json(), [KEY])
        ov.save_model(model, str(path), compress_to_fp16=precision == "float16")


WRITERS: dict[str, Callable[[Task, Contract, Path, Precision], None]] = {
    ".onnx": write_onnx,
    ".pt2": write_program,
    ".xml": write_openvino,
}
"""What writes a file, by its suffix."""


def sign_onnx(path: Path, contract: Contract, target: Path) -> None:
    """Writes an ONNX file with another contract."""
    onnx = package("onnx")
    model = onnx.load(str(path))
    del model.metadata_props[:]
    model.metadata_props.add(key=KEY, value=contract.to_json())
    onnx.save(model, str(target))


def sign_openvino(path: Path, contract: Contract, target: Path) -> None:
    """Writes an OpenVINO IR with another contract."""
    ov = package("openvino")
    model = ov.Core().read_model(str(path))
    model.set_rt_info(contract.to_json(), [KEY])
    ov.save_model(model, str(target), compress_to_fp16=contract.precision == "float16")


SIGNERS: dict[str, Callable[[Path, Contract, Path], None]] = {".onnx": sign_onnx, ".xml": sign_openvino}
"""What writes a file with another contract, by its suffix."""


@contextlib.contextmanager
def appearing_together(target: Path, replace: bool) -> Iterator[Path]:
    """Yields a file to write in a folder of its own; all files there get their names when the block ends.

    Raises:
        FileExistsError: If a file is there and may not be replaced.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix=".", suffix=".part", dir=target.parent))
    try:
        part = folder / target.name
        yield part
        for made in sorted(folder.iterdir(), key=lambda each: each == part):  # the file that names the others last
            publish(made, target.parent / made.name, replace=replace)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _program(task: Task, contract: Contract, precision: Precision) -> torch.export.ExportedProgram:
    multiple, channels = contract.multiple, len(contract.input_channels)
    if contract.size is not None:
        sample, dynamic = torch.rand(1, channels, *contract.size), None
    else:
        # Not two equal sides, nor a batch that could be taken for a side.
        sample = torch.rand(1, channels, *(side * multiple if multiple > 1 else 19 * side for side in (5, 7)))
        sides = [torch.export.Dim(name, min=1, max=LARGEST // multiple) for name in ("h", "w")]
        free = [multiple * side for side in sides] if multiple > 1 else [torch.export.Dim.DYNAMIC] * 2
        dynamic = (dict(zip((2, 3), free, strict=True)),)
    with _saying("torch.export", task), torch.no_grad(), _silence():
        program = torch.export.export(Core(task, precision), (sample,), dynamic_shapes=dynamic)
    for node in program.graph.nodes:  # names folders of the machine that exports
        node.meta.pop("stack_trace", None)
    # Guards of newer versions of torch against sizes that the example had not, such as a single cell of the coarsest
    # level, for which memory is laid out otherwise. The checks of an export show that the values are right.
    program.__dict__["_guards_code"] = []
    return program


def _forget_source(graph: Any) -> None:
    """Removes what tells where the code lies on the machine that exports."""
    for part in (*graph.node, *graph.input, *graph.output, *graph.value_info, *graph.initializer):
        del part.metadata_props[:]
        part.doc_string = ""


@contextlib.contextmanager
def _saying(format: str, task: Task) -> Iterator[None]:
    """Turns whatever an exporter raises into one line."""
    try:
        yield
    except UserError:
        raise
    except Exception as error:  # exporters raise anything on networks that they cannot follow
        name, reason = type(task.network).__name__, first_line(error.__cause__ or error)
        raise UserError(f"the network {name} cannot be exported by {format}: {reason}") from error


@contextlib.contextmanager
def _silence() -> Iterator[None]:
    """Hides the exporters' remarks, which are about their own code."""
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "torch.export", "onnxscript", "onnx_ir")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
