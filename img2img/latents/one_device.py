"""An autoencoder on one device, without a Trainer: for a few images, starting one takes longer than computing."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from img2img.data.labelled_images import read_scaled
from img2img.errors import UserError
from img2img.imaging.files import UnreadableImage
from img2img.latents.runner import open_autoencoder
from img2img.tasks import Autoencoder
from img2img.trainer import best_precision

_AUTOCAST = {"16-mixed": torch.float16, "bf16-mixed": torch.bfloat16}
_ALIASES = {"32": "32-true", "64": "64-true", "16": "16-mixed", "bf16": "bf16-mixed"}  # Lightning's
_WEIGHTS = {"32-true": torch.float32, "64-true": torch.float64, "16-true": torch.float16, "bf16-true": torch.bfloat16}


class OneDevice:
    """Encodes and decodes on one device, batch by batch, under `torch.no_grad`.

    Args:
        model: Checkpoint, or an autoencoder, which stays as it is: a copy is moved to the device, and in the `-true`
            precisions its weights are converted.
        accelerator: cpu, gpu, cuda, mps, or auto for the best one that this machine has.
        precision: 32-true, 16-mixed, bf16-mixed, 16-true, bf16-true, 64-true, or auto.
        batch_size: Images that go through the network together.
        trust: Further packages whose classes the checkpoint may name.

    Raises:
        UserError: If the machine has no such accelerator, the precision is unknown, the batch size is below 1, or the
            model is not an autoencoder.
        FileNotFoundError: If the checkpoint does not exist.
    """

    def __init__(
        self,
        model: str | Path | Autoencoder,
        accelerator: str = "auto",
        precision: str = "32-true",
        batch_size: int = 32,
        trust: Sequence[str] = (),
    ) -> None:
        if batch_size < 1:
            raise UserError("--batch_size must be at least 1")
        self.device, self.batch_size = device_of(accelerator), batch_size
        name = best_precision(accelerator) if precision == "auto" else _ALIASES.get(precision, precision)
        if name not in _AUTOCAST and name not in _WEIGHTS:
            raise UserError(f"--precision {precision} is not one of auto, {', '.join([*_WEIGHTS, *_AUTOCAST])}")
        self._autocast, self._dtype = _AUTOCAST.get(name), _WEIGHTS.get(name, torch.float32)
        self.task = open_autoencoder(model, trust).to(self.device)
        if name != "32-true" and name in _WEIGHTS:
            self.task = self.task.to(self._dtype)

    def compute(self, function: Callable[[Tensor], Tensor], values: Tensor) -> Tensor:
        """Returns the result of a function of the model, computed on the device; float32 on the CPU."""
        autocast: Any = nullcontext() if self._autocast is None else torch.autocast(self.device.type, self._autocast)
        with torch.no_grad(), autocast:
            return function(values.to(self.device, self._dtype)).float().cpu()

    def decode(self, latents: Tensor) -> Tensor:
        """Returns the images of latents N×k, N×C×H×W in [0, 1]."""
        return torch.cat([self.compute(self.task.decode, batch) for batch in torch.split(latents, self.batch_size)])

    def encode_file(self, path: Path) -> tuple[Tensor, Tensor]:
        """Returns the latent of an image file, k numbers, and the image as the model sees it, C×H×W in [0, 1].

        Raises:
            UserError: If the file cannot be read.
        """
        try:
            image, _ = read_scaled(path, self.task.network.image_size, self.task.network.in_channels)
        except UnreadableImage as error:
            raise UserError(str(error)) from error
        return self.compute(self.task.encode, image[None])[0], image


def device_of(accelerator: str) -> torch.device:
    """Returns a device by Lightning's name of its accelerator.

    Raises:
        UserError: If this machine has no such accelerator.
    """
    there = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    wanted = {"auto": ("cuda", "mps", "cpu"), "gpu": ("cuda", "mps")}.get(accelerator, (accelerator,))
    name = next((name for name in wanted if there.get(name)), None)
    if name is None:
        here = ", ".join(name for name, has in there.items() if has)
        raise UserError(f"--accelerator {accelerator} is not there: this machine has {here}")
    return torch.device(name)
