"""ONNX files that are written once in a process, however many tests export the same model."""

from __future__ import annotations

from pathlib import Path

import pytest

from img2img.exporting import engines, writing
from img2img.exporting.contract import Contract
from img2img.exporting.core import Precision
from img2img.exporting.writing import write_onnx
from img2img.tasks import Task

_WRITTEN: dict[str, bytes] = {}


def write_once(patch: pytest.MonkeyPatch) -> None:
    """Lets exports of a model that was exported before take the file from then: torch's exporter takes seconds."""
    patch.setattr(writing, "write_onnx", _write)
    patch.setattr(engines, "write_onnx", _write)
    patch.setitem(writing.WRITERS, ".onnx", _write)


def _write(task: Task, contract: Contract, path: Path, precision: Precision) -> None:
    key = f"{precision} {task.network} {contract.to_json()}"  # which holds a digest of the weights
    if key not in _WRITTEN:
        write_onnx(task, contract, path, precision)
        _WRITTEN[key] = path.read_bytes()
    path.write_bytes(_WRITTEN[key])
