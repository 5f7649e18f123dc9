"""`img2img.export`: writes a model as a file for other runtimes, which is left only if it does what the model does."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from img2img.errors import UserError

if TYPE_CHECKING:
    from img2img.exporting.check import Parity
    from img2img.exporting.contract import Contract
    from img2img.tasks import Task

SUFFIXES = (".onnx", ".pt2", ".xml")


@dataclass(frozen=True)
class Exported:
    """A file that was written.

    Attributes:
        path: The file.
        size: Its bytes, with those of the weights beside it.
        contract: What it says of itself.
        parity: How far it is from torch.
        tolerance: How far it might be.
    """

    path: Path
    size: int
    contract: Contract
    parity: Parity
    tolerance: float


def export(
    model: str | Path | Task,
    output: str | Path,
    precision: Literal["float32", "float16"] = "float32",
    overwrite: bool = False,
    trust: Sequence[str] = (),
) -> Exported:
    """Writes a model as a file for other runtimes, with a contract that says how to use it.

    The file is compared with torch on 20 images of random sizes, whole and in tiles, before it gets its name.

    Args:
        model: Shipped model's name (`img2img models`), checkpoint, packed model, or weights of a published model; in
            Python also a task from `img2img.load`.
        output: File to write: .onnx for onnxruntime and others, .pt2 for torch.export.load, or .xml for OpenVINO,
            whose weights get the same name with .bin.
        precision: Of the network (default: float32); images are float32 in any case.
        overwrite: Replace a file that is there.
        trust: Further package whose classes the checkpoint may name.

    Raises:
        UserError: If the output is of another kind or exists, a package is missing, the network cannot be exported, or
            the file differs from torch by more than 1e-4 in float32, or 5e-3 in float16, for values in [0, 1].
        CheckpointError: If the model cannot be opened.
    """
    target = Path(output).expanduser()
    if target.suffix.lower() not in SUFFIXES:
        raise UserError(f"the output {output} must end in {', '.join(SUFFIXES)}: that says what kind of file it is")
    made = [target, target.with_suffix(".bin")] if target.suffix.lower() == ".xml" else [target]
    for path in made:
        _check_free(path, overwrite)
    from img2img.exporting.check import TOLERANCE, compare
    from img2img.exporting.core import contract_of
    from img2img.exporting.peak import measured_bytes
    from img2img.exporting.runner import ExportedNetwork
    from img2img.exporting.sessions import open_session
    from img2img.exporting.writing import SIGNERS, WRITERS, appearing_together
    from img2img.tasks.recipe import load

    task = load(model, trust) if isinstance(model, str | Path) else model
    kind = target.suffix.lower()
    contract = contract_of(task, precision)
    try:
        with appearing_together(target, overwrite) as part:
            with tempfile.TemporaryDirectory() as folder:
                file = Path(folder) / target.name if kind in SIGNERS else part
                WRITERS[kind](task, contract, file, precision)
                if kind in SIGNERS:  # torch's own memory is known
                    contract = replace(contract, bytes_per_pixel=measured_bytes(file, contract))
                    SIGNERS[kind](file, contract, part)
            contract = open_session(part, 1)[1]  # as others will read it
            parity, tolerance = compare(task, ExportedNetwork(part, contract)), TOLERANCE[precision]
            if not parity.worst <= tolerance:  # nor NaN
                raise UserError(
                    f"{target} was not written: it differs from torch by {parity.worst:.2g}, more than {tolerance:g}"
                )
    except FileExistsError as error:
        raise UserError(f"{target} is there already; give --overwrite to replace it, or another name") from error
    return Exported(target, sum(path.stat().st_size for path in made), contract, parity, tolerance)


def _check_free(path: Path, overwrite: bool) -> None:
    if path.is_dir():
        raise UserError(f"the output {path} is a folder; name a file")
    if path.is_symlink() or (path.exists() and not overwrite):
        raise UserError(f"{path} is there already; give --overwrite to replace it, or another name")
