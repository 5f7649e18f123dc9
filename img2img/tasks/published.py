"""Models from elsewhere: the weights of published restorers, which the package `spandrel` knows by their names."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from img2img.networks import PublishedNetwork
from img2img.tasks.checkpoint import CheckpointError
from img2img.tasks.inpainting import Inpainting
from img2img.tasks.restoration import Restoration

if TYPE_CHECKING:
    from spandrel import ModelDescriptor


def published(contents: dict[str, Any], path: Path) -> Restoration:
    """Makes a task of a published restorer's weights.

    The architecture and its sizes are told from the names and shapes of the weights. Nothing but tensors is used.

    Args:
        contents: What was read of the file: a state_dict, or one under a usual key (`params_ema`, `params` …).
        path: The file, for messages.

    Returns:
        A task in eval mode, on the CPU, which restores and is not trained: `Inpainting` for networks that fill holes,
        else `Restoration`, whose output is larger than its input where `scale` is not 1.

    Raises:
        CheckpointError: If spandrel is not installed, does not know the network, or the network is of no use here.
    """
    network = PublishedNetwork(_describe(contents, path))
    return (Inpainting(network) if network.masked else Restoration(network)).eval()


def _describe(contents: dict[str, Any], path: Path) -> ModelDescriptor:
    try:
        import spandrel
    except ImportError as error:
        raise CheckpointError(
            f"{path} is not a checkpoint of img2img; if it comes from a published restorer, "
            "pip install 'img2img[spandrel]' and try again"
        ) from error
    try:
        descriptor = spandrel.ModelLoader().load_from_state_dict(contents)
    except spandrel.UnsupportedModelError as error:
        raise CheckpointError(
            f"{path} is not a checkpoint of img2img, nor of a network that spandrel {spandrel.__version__} knows, such "
            "as Real-ESRGAN, SwinIR, SCUNet, NAFNet, DRUNet; Restormer, CodeFormer, MAT and others it leaves out for "
            "their licences"
        ) from error
    except Exception as error:  # what a network's builder meets in weights that only look like its own: anything
        reason = (str(error).strip().splitlines() or [""])[0].rstrip(":")
        raise CheckpointError(
            f"{path} is not a checkpoint of img2img, and spandrel can make no network of it: "
            f"{type(error).__name__}: {reason}"
        ) from error
    _check_use(descriptor, path)
    return descriptor


def _check_use(descriptor: ModelDescriptor, path: Path) -> None:
    name, given, made = descriptor.architecture.name, descriptor.input_channels, descriptor.output_channels
    if descriptor.purpose == "FaceSR":
        raise CheckpointError(f"{path} ({name}) restores faces, cut out and aligned, and no whole photographs")
    if given != made or given not in (1, 3):
        raise CheckpointError(
            f"{path} ({name}) maps {given} channel(s) to {made}; what can be used maps gray to gray or RGB to RGB"
        )
