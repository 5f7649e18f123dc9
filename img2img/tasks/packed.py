"""Packed models: one safetensors file with weights in half precision and the recipe as JSON in its header."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from img2img.imaging.parts import appearing

PACKED_KEY = "img2img"
"""The entry of a safetensors header that marks a file as one of ours."""
PACKED_FORMAT = 1
_KEPT = "kept/"  # prefix of tensors that are not weights; the names of weights contain no slash
Precision = Literal["float16", "bfloat16", "float32"]


class DamagedFile(ValueError):
    """A packed file is damaged; the message is one line that says why."""


def write_packed(path: Path, state: Mapping[str, Tensor], about: Mapping[str, Any], precision: Precision) -> None:
    """Writes a model's weights, and data about the model, to one file.

    Args:
        path: The file; it is written completely or not at all.
        state: The task's state_dict.
        about: Version, recipe, statistics: plain data and tensors.
        precision: Type of the stored weights; integers, and the tensors of `about`, keep their type.

    Raises:
        ValueError: If a weight is not finite or too large for the precision, or `about` holds anything else.
    """
    dtype = getattr(torch, precision)
    tensors = {}
    for name, value in state.items():
        kept = value.to(dtype) if value.is_floating_point() else value
        if not torch.isfinite(value).all():
            raise ValueError(f"{name} contains NaN or infinity")
        if not torch.isfinite(kept).all():
            raise ValueError(f"{name} is too large for {precision}; choose another precision, such as bfloat16")
        tensors[name] = kept.contiguous().clone()  # tied weights share memory, which the format cannot store
    data = {"format": PACKED_FORMAT, **_without_tensors(about, _KEPT, tensors)}
    data["digest"] = _digest(data, tensors)
    content = save(tensors, metadata={PACKED_KEY: json.dumps(data)})
    with appearing(path) as part:  # safetensors' own save_file creates files that only their owner can read
        part.write_bytes(content)


def read_packed(path: Path) -> tuple[dict[str, Tensor], dict[str, Any] | None]:
    """Reads a safetensors file on the CPU.

    Returns:
        The tensors, and for a packed model the `about` that `write_packed` got, else None. A packed model's weights are
        converted to float32.

    Raises:
        DamagedFile: If the file is truncated or was changed, its header is invalid, or its format is newer.
    """
    try:
        with safe_open(path, "pt") as file:
            header = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  not iterable
    except (SafetensorError, OSError, RuntimeError) as error:
        raise DamagedFile(f"{path} is not a checkpoint, or is damaged: {str(error).splitlines()[0]}") from error
    if PACKED_KEY not in header:
        return tensors, None
    try:
        data = json.loads(header[PACKED_KEY])
    except (ValueError, RecursionError) as error:
        raise DamagedFile(f"{path} is damaged: the model data in its header is not JSON") from error
    if not isinstance(data, dict):
        raise DamagedFile(f"{path} is damaged: the model data in its header is not a dictionary")
    if data.get("format") != PACKED_FORMAT:
        raise DamagedFile(f"{path} was written by a newer img2img, or is damaged: update img2img and try again")
    if data.pop("digest", None) != _digest(data, tensors):
        raise DamagedFile(f"{path} is damaged: its content is not what was written; get the file again")
    del data["format"]
    kept = {name: tensors.pop(name) for name in list(tensors) if name.startswith(_KEPT)}
    state = {name: value.float() if value.is_floating_point() else value for name, value in tensors.items()}
    try:
        return state, dict(_with_tensors(data, kept))
    except RecursionError as error:
        raise DamagedFile(f"{path} is damaged: the model data in its header is nested too deeply") from error


def _without_tensors(tree: Any, place: str, tensors: dict[str, Tensor]) -> Any:
    """Replaces the tensors in plain data by their names, and adds them to `tensors`."""
    if isinstance(tree, Tensor):
        tensors[place] = tree.contiguous()
        return {"tensor": place}
    if isinstance(tree, Mapping):
        if not all(isinstance(key, str) for key in tree) or set(tree) == {"tensor"}:
            raise ValueError(f"{place.removeprefix(_KEPT) or 'it'} is not plain data: not all of its keys are names")
        return {key: _without_tensors(value, f"{place}{key}/", tensors) for key, value in tree.items()}
    if isinstance(tree, list | tuple):
        return [_without_tensors(value, f"{place}{number}/", tensors) for number, value in enumerate(tree)]
    if tree is None or isinstance(tree, bool | int | float | str):
        return tree
    raise ValueError(f"{place.removeprefix(_KEPT)} is a {type(tree).__name__}, which is not plain data")


def _with_tensors(tree: Any, tensors: Mapping[str, Tensor]) -> Any:
    """Undoes `_without_tensors`."""
    if isinstance(tree, dict):
        if set(tree) == {"tensor"} and isinstance(tree["tensor"], str) and tree["tensor"] in tensors:
            return tensors[tree["tensor"]]
        return {key: _with_tensors(value, tensors) for key, value in tree.items()}
    return [_with_tensors(value, tensors) for value in tree] if isinstance(tree, list) else tree


def _digest(data: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> str:
    """Returns the SHA-256 of the data and of all tensors, in the order of their names."""
    digest = hashlib.sha256(json.dumps(data, sort_keys=True).encode())
    for name in sorted(tensors):
        tensor = tensors[name].contiguous()
        digest.update(f"{name}|{tensor.dtype}|{tuple(tensor.shape)}|".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()
