"""Exported files as tasks, which restore folders as any model does."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from img2img.errors import UserError
from img2img.exporting.runner import ExportedNetwork
from img2img.exporting.sessions import ENGINES, OPENERS, open_session
from img2img.networks import ReceptiveField
from img2img.tasks import Restoration
from img2img.tasks.colorization import to_gray
from img2img.tasks.uncertain import estimated_through_channels

RESTORABLE = (".onnx", ".xml")
"""Suffixes of the exported files that restore; opening a .pt2 file of somebody else's could run code."""


class ExportedRestoration(Restoration):
    """Restores images with an exported file, by its contract; it cannot be trained.

    Args:
        network: The file.

    Attributes:
        engine: The runtime, which is part of what identifies a run.
    """

    def __init__(self, network: ExportedNetwork) -> None:
        super().__init__(network)
        self.exported, self.contract = network, network.contract
        self.engine = network.engine or {".onnx": "onnxruntime", ".xml": "openvino"}[network.path.suffix.lower()]
        self.recipe = {"exported": self.contract.weights}  # what identifies a task in memory
        names = self.contract.output_channels
        self.needs_mask = self.contract.mask
        self.estimates_sigma = any(name.startswith("sigma") for name in names)
        self.colourises = self.in_channels == 1 and names[:3] == ("red", "green", "blue")

    @property
    def in_channels(self) -> int:
        """Channels of the images."""
        return len(self.contract.input_channels) - self.contract.mask

    @property
    def receptive_field(self) -> ReceptiveField | None:
        """The receptive field in the contract."""
        return self.exported.field

    @property
    def bytes_per_pixel(self) -> float:
        """Memory that the runtime takes for each pixel; it takes one image of a batch after the other."""
        return self.exported.bytes_per_pixel

    def estimate(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """Returns the restored images, and σ of their errors; for files that have it. Both are N×C×H×W."""
        output = self.exported(image)
        return output[:, : self.in_channels], output[:, self.in_channels :]

    def forward(self, image: Tensor, mask: Tensor | None = None) -> Tensor:
        """Restores images N×C×H×W in [0, 1], with the file's number of channels.

        Raises:
            UserError: If the file needs a mask, and there is none.
        """
        if self.needs_mask and mask is None:
            raise UserError("this model fills holes and needs to know where they are: give a mask, 1 in the hole")
        seen = image if mask is None else torch.cat([image.masked_fill(mask.bool(), 0), mask], 1)
        output: Tensor = self.exported(seen)
        return output[:, : 3 if self.colourises else self.in_channels]

    def restore_once(self, image: Tensor, mask: Tensor | None = None, uncertainty: bool = False) -> Tensor:
        """Restores gray or RGB images with a file for either, as the task does from which it was exported."""
        if self.colourises:
            return self(to_gray(image))  # type: ignore[no-any-return]
        if uncertainty:
            return estimated_through_channels(self.estimate, image, self.in_channels)
        return super().restore_once(image, mask)

    def restore_tile(
        self, image: Tensor, mask: Tensor | None = None, self_ensemble: bool = False, uncertainty: bool = False
    ) -> Tensor:
        """Restores images that fit into memory, see `Restoration.restore_tile`; known pixels stay to the bit."""
        restored = super().restore_tile(image, mask, self_ensemble, uncertainty)
        return restored if mask is None else torch.where(mask.bool(), restored, image)


def is_exported(path: Path) -> bool:
    """Returns whether a file's name says that it is an exported model."""
    return path.suffix.lower() in OPENERS


def open_exported(path: Path, engine: str | None = None, bytes_per_pixel: float | None = None) -> ExportedRestoration:
    """Opens an exported file to restore with.

    Args:
        path: The file.
        engine: Which runtime runs an ONNX file; None for the usual one of the file.
        bytes_per_pixel: Memory that this runtime takes; None for what the contract says.

    Raises:
        UserError: If the file cannot be opened, or does not restore images of any size.
    """
    suffix = path.suffix.lower()
    if suffix not in RESTORABLE:
        raise UserError(f"{path}: files of this kind are for torch; export the model as .onnx to restore with it")
    if engine is not None and (suffix != ".onnx" or engine not in ENGINES):
        raise UserError(f"--engine {engine} cannot run {path}: it runs with {_usual(suffix)}; leave out --engine")
    session, contract = open_session(path, torch.get_num_threads(), engine)
    if contract.size is not None:
        height, width = contract.size
        raise UserError(f"{path} takes only images of {width}×{height} pixels and cannot restore photographs")
    network = ExportedNetwork(path, contract, engine, bytes_per_pixel)
    network.session = session
    return ExportedRestoration(network).eval()


def _usual(suffix: str) -> str:
    return f"{', '.join(ENGINES)}" if suffix == ".onnx" else "openvino"
