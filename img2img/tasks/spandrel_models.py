"""Builds tasks from the weights of published restorers, which the package `spandrel` recognises."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from img2img.networks import PublishedNetwork
from img2img.tasks.checkpoint import CheckpointError
from img2img.tasks.inpainting import Inpainting
from img2img.tasks.restoration import Restoration
from img2img.tasks.untrusted import bounded_building

if TYPE_CHECKING:
    from spandrel import ModelDescriptor


def published(contents: dict[str, Any], path: Path) -> Restoration:
    """Builds a task from a published restorer's weights.

    The names and shapes of the weights determine the architecture and its sizes. Only tensors are used.

    Args:
        contents: Contents of the file: a state_dict, or one under a common key (`params_ema`, `params` …).
        path: The file, for messages.

    Returns:
        A task in eval mode, on the CPU, for restoring only: `Inpainting` for networks that fill holes, else
        `Restoration`, whose output is larger than its input if `scale` is not 1.

    Raises:
        CheckpointError: If spandrel is not installed or does not know the network, or the network restores only faces
            or maps other channels than gray to gray or RGB to RGB.
    """
    network = PublishedNetwork(_describe(contents, path))
    return (Inpainting(network) if network.masked else Restoration(network)).eval()


def _describe(contents: dict[str, Any], path: Path) -> ModelDescriptor:
    try:
        import spandrel
    except ImportError as error:
        raise CheckpointError(
            f"{path} is not a checkpoint of img2img; if it comes from a published restorer, "
            "pip install '.[spandrel]' in a clone of img2img, and try again"
        ) from error
    try:
        with bounded_building(_tensors(contents)):
            descriptor = spandrel.ModelLoader().load_from_state_dict(contents)
    except spandrel.UnsupportedModelError as error:
        raise CheckpointError(
            f"{path} is not a checkpoint of img2img, nor of a network that spandrel {spandrel.__version__} knows, such "
            "as Real-ESRGAN, SwinIR, SCUNet, NAFNet, DRUNet; Restormer, CodeFormer, MAT and others it omits because "
            "of their licences"
        ) from error
    except Exception as error:  # builders may raise anything on weights that only look like theirs
        reason = (str(error).strip().splitlines() or [""])[0].rstrip(":")
        raise CheckpointError(
            f"{path} is not a checkpoint of img2img, and spandrel cannot build a network from it: "
            f"{type(error).__name__}: {reason}"
        ) from error
    _check_use(descriptor, path)
    return descriptor


def _tensors(contents: Any) -> Iterator[Any]:
    """Yields what a file holds, at any depth."""
    for value in contents.values() if isinstance(contents, dict) else ():
        yield value
        yield from _tensors(value)


def _check_use(descriptor: ModelDescriptor, path: Path) -> None:
    name, given, made = descriptor.architecture.name, descriptor.input_channels, descriptor.output_channels
    if descriptor.purpose == "FaceSR":
        raise CheckpointError(f"{path} ({name}) restores only cropped and aligned faces, not whole photographs")
    if given != made or given not in (1, 3):
        raise CheckpointError(
            f"{path} ({name}) maps {given} channel(s) to {made}; only gray to gray or RGB to RGB can be used"
        )
