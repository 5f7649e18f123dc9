"""Exported files as networks: tensors in and out, padded and cropped as the contract says."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from img2img.exporting.contract import Contract
from img2img.exporting.sessions import Session, open_session
from img2img.networks import ReceptiveField


class ExportedNetwork(nn.Module):
    """An exported file as a network of any image size.

    The runtime opens the file on first use, so that the network can be copied and sent to other processes.

    Args:
        path: The file.
        contract: Its contract.
        engine: Which runtime runs it; None for the usual one of the file.
        bytes_per_pixel: Memory that this runtime takes per input pixel; None for what the contract says.
    """

    def __init__(
        self, path: Path, contract: Contract, engine: str | None = None, bytes_per_pixel: float | None = None
    ) -> None:
        super().__init__()
        self.path, self.contract, self.engine = path, contract, engine
        self.in_channels, self.scale = len(contract.input_channels), contract.scale
        self.bytes_per_pixel = bytes_per_pixel or contract.bytes_per_pixel

    @property
    def field(self) -> ReceptiveField | None:
        """The receptive field; None if no halo makes tiling exact."""
        contract = self.contract
        return None if contract.halo is None else ReceptiveField(contract.halo, contract.stride, contract.scale)

    @cached_property
    def session(self) -> Session:
        """What runs the file."""
        return open_session(self.path, torch.get_num_threads(), self.engine)[0]

    def __getstate__(self) -> dict[str, Any]:
        """Leaves the runtime's objects out of copies."""
        return {name: value for name, value in vars(self).items() if name != "session"}

    def forward(self, image: Tensor) -> Tensor:
        """Maps N×C×H×W of any size from 1×1 to N×C'×(scale·H)×(scale·W), one image after the other."""
        height, width = image.shape[-2:]
        seen = np.ascontiguousarray(image.detach().float().cpu().numpy())
        multiple, scale = self.contract.multiple, self.contract.scale
        padding = ((0, 0), (0, 0), (0, -height % multiple), (0, -width % multiple))
        if any(after for _, after in padding):
            seen = np.pad(seen, padding, "edge")
        outputs = [self.session(each[None])[..., : height * scale, : width * scale] for each in seen]
        return torch.from_numpy(np.concatenate(outputs)).to(image.device)
