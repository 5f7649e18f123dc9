"""A trained model as one safetensors file: weights in half precision, the recipe as JSON in its header."""

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
"""The entry of a safetensors header that makes a file one of ours."""
PACKED_FORMAT = 1
_KEPT = "kept/"  # what a task keeps beside its weights; the names of weights hold no slash
Precision = Literal["float16", "bfloat16", "float32"]


class DamagedFile(ValueError):
    """A packed file is not what was written; one line says why."""


def write_packed(path: Path, state: Mapping[str, Tensor], about: Mapping[str, Any], precision: Precision) -> None:
    """Writes a model's weights, and what is known of it, to one file.

    Args:
        path: The file, which appears whole or not at all.
        state: The task's state_dict.
        about: What the checkpoint holds beside it: version, recipe, statistics; plain data and tensors.
        precision: What the weights are stored in; whole numbers, and the tensors of `about`, keep their type.

    Raises:
        ValueError: If a weight is not finite or too large for the precision, or `about` holds anything but plain data
            and tensors.
    """
    dtype = getattr(torch, precision)
    tensors = {}
    for name, value in state.items():
        kept = value.to(dtype) if value.is_floating_point() else value
        if not torch.isfinite(value).all():
            raise ValueError(f"{name} contains NaN or infinity")
        if not torch.isfinite(kept).all():
            raise ValueError(f"{name} holds values that {precision} cannot; choose another precision, such as bfloat16")
        tensors[name] = kept.contiguous().clone()  # tied weights share memory, which the format does not know
    said = {"format": PACKED_FORMAT, **_without_tensors(about, _KEPT, tensors)}
    said["digest"] = _digest(said, tensors)
    content = save(tensors, metadata={PACKED_KEY: json.dumps(said)})
    with appearing(path) as part:  # safetensors' own save_file makes files that their owner alone may read
        part.write_bytes(content)


def read_packed(path: Path) -> tuple[dict[str, Tensor], dict[str, Any] | None]:
    """Reads a safetensors file on the CPU.

    Returns:
        The tensors; and of a packed model what `write_packed` was told about it, else None. Its weights come back as
        float32.

    Raises:
        DamagedFile: If the file is truncated, its header lies, or its content is not what was written.
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
        said = json.loads(header[PACKED_KEY])
        digest = said.pop("digest", None) if isinstance(said, dict) else None
    except (ValueError, RecursionError) as error:
        raise DamagedFile(f"{path} is damaged: what its header says of the model is not JSON") from error
    if not isinstance(said, dict):
        raise DamagedFile(f"{path} is damaged: what its header says of the model is no settings")
    if said.get("format") != PACKED_FORMAT:
        raise DamagedFile(f"{path} was written by a newer img2img, or is damaged: pip install --upgrade img2img")
    if digest is None or digest != _digest(said, tensors):
        raise DamagedFile(f"{path} is damaged: its content is not what was written; get the file anew")
    del said["format"]
    kept = {name: tensors.pop(name) for name in list(tensors) if name.startswith(_KEPT)}
    state = {name: value.float() if value.is_floating_point() else value for name, value in tensors.items()}
    try:
        return state, dict(_with_tensors(said, kept))
    except RecursionError as error:
        raise DamagedFile(f"{path} is damaged: what its header says of the model is nested too deep") from error


def _without_tensors(tree: Any, place: str, tensors: dict[str, Tensor]) -> Any:
    """Returns plain data in which the names of tensors stand for them; the tensors are added to those given."""
    if isinstance(tree, Tensor):
        tensors[place] = tree.contiguous()
        return {"tensor": place}
    if isinstance(tree, Mapping):
        if not all(isinstance(key, str) for key in tree) or set(tree) == {"tensor"}:
            raise ValueError(f"{place.removeprefix(_KEPT) or 'it'} is no plain data: its keys are not all names")
        return {key: _without_tensors(value, f"{place}{key}/", tensors) for key, value in tree.items()}
    if isinstance(tree, list | tuple):
        return [_without_tensors(value, f"{place}{number}/", tensors) for number, value in enumerate(tree)]
    if tree is None or isinstance(tree, bool | int | float | str):
        return tree
    raise ValueError(f"{place.removeprefix(_KEPT)} is a {type(tree).__name__}, which is no plain data")


def _with_tensors(tree: Any, tensors: Mapping[str, Tensor]) -> Any:
    """Undoes `_without_tensors`."""
    if isinstance(tree, dict):
        if set(tree) == {"tensor"} and isinstance(tree["tensor"], str) and tree["tensor"] in tensors:
            return tensors[tree["tensor"]]
        return {key: _with_tensors(value, tensors) for key, value in tree.items()}
    return [_with_tensors(value, tensors) for value in tree] if isinstance(tree, list) else tree


def _digest(said: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> str:
    """Returns the SHA-256 of what is said and of all tensors, in the order of their names."""
    digest = hashlib.sha256(json.dumps(said, sort_keys=True).encode())
    for name in sorted(tensors):
        tensor = tensors[name].contiguous()
        digest.update(f"{name}|{tensor.dtype}|{tuple(tensor.shape)}|".encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()
