"""The contract of an exported model: all that a program needs to know to use it, as one JSON inside the file."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import TYPE_CHECKING, Any

from img2img.errors import UserError
from img2img.version import __version__

if TYPE_CHECKING:
    from img2img.tasks import Task

KEY = "img2img"
"""The entry of a file's metadata that holds the contract."""
FORMAT = 1
COLOURS = {1: ("gray",), 3: ("red", "green", "blue")}
MASK = "mask"


@dataclass(frozen=True)
class Contract:
    """What an exported model computes, and how images must be given to it.

    The model maps one image, 1×C×H×W float32, to 1×C'×(scale·H)×(scale·W). Height and width are multiples of
    `multiple`: repeat the last row and column of an image, and crop the result. A pixel of the result depends on no
    input pixel farther away than `halo`, if the tile starts at a multiple of `stride` in the image: tiling is exact.

    Attributes:
        task: Class of the task.
        input_channels: Names of the C channels, such as red, green, blue. `mask` is 1 where the image is missing.
        output_channels: Names of the C' channels; sigma_red and so on are the estimated error, `anomaly` is a
            probability.
        range: Least and largest value of the image, and of the result; noisy inputs may leave it.
        multiple: Height and width must be multiples of this.
        stride: Tiles must start at multiples of this.
        halo: Pixels that a tile must include around its kept part; None if no halo makes tiling exact.
        scale: Output pixels per input pixel, on each axis.
        size: Height and width, if the model takes only one size.
        bytes_per_pixel: Memory that the runtime takes per input pixel.
        precision: Type in which the network computes: float32 or float16.
        thresholds: For models that score images: scores above are abnormal. By name of the score, or of the map whose
            pixels are compared.
        weights: SHA-256 of the weights that were exported.
        version: Version of img2img that wrote the file.
    """

    task: str
    input_channels: tuple[str, ...]
    output_channels: tuple[str, ...]
    multiple: int
    stride: int
    halo: int | None
    scale: int
    size: tuple[int, int] | None
    bytes_per_pixel: float
    precision: str
    thresholds: Mapping[str, float]
    weights: str
    range: tuple[float, float] = (0.0, 1.0)
    version: str = __version__

    @property
    def mask(self) -> bool:
        """Whether the last input channel is a mask."""
        return MASK in self.input_channels

    def to_json(self) -> str:
        """Returns the contract as text."""
        return json.dumps({"format": FORMAT, **asdict(self), "mask": self.mask}, allow_nan=False)


def read_contract(text: str | None, file: str) -> Contract:
    """Returns the contract in a file's metadata, checked.

    Args:
        text: The metadata; None if there is none.
        file: Name of the file, for messages.

    Raises:
        UserError: If there is no contract, or it is not one that this version understands.
    """
    if text is None:
        raise UserError(f"{file} holds no contract: export the model with `img2img export`")
    try:
        found = json.loads(text)
        if found.get("format") != FORMAT:
            raise UserError(f"{file} was exported by a newer img2img, or is damaged: update img2img and try again")
        return _checked({field.name: found[field.name] for field in fields(Contract)})
    except (LookupError, TypeError, ValueError, AttributeError, RecursionError) as error:
        if isinstance(error, UserError):
            raise
        raise UserError(f"{file} is damaged: its contract cannot be read ({error})") from error


def _checked(found: dict[str, Any]) -> Contract:
    for name in ("input_channels", "output_channels"):
        found[name] = tuple(map(str, found[name]))
    for name in ("multiple", "stride", "scale"):
        if type(found[name]) is not int or not 1 <= found[name] <= 1 << 16:
            raise ValueError(f"{name} is {found[name]}")
    if found["halo"] is not None and (type(found["halo"]) is not int or not 0 <= found["halo"] <= 1 << 20):
        raise ValueError(f"halo is {found['halo']}")
    if not 0 < float(found["bytes_per_pixel"]) < 1e9:
        raise ValueError(f"bytes_per_pixel is {found['bytes_per_pixel']}")
    low, high = map(float, found["range"])
    size = found["size"]
    found |= {"range": (low, high), "size": None if size is None else (int(size[0]), int(size[1]))}
    found["thresholds"] = {str(name): float(value) for name, value in found["thresholds"].items()}
    contract = Contract(**found)
    images = len(contract.input_channels) - contract.mask
    if images not in COLOURS or len(contract.output_channels) < min(images, 3):
        raise ValueError(f"its channels are {contract.input_channels} and {contract.output_channels}")
    return contract


def digest_of(task: Task, begin: bytes = b"") -> str:
    """Returns the SHA-256 of a task's weights, after the bytes `begin`."""
    import torch

    digest = hashlib.sha256(begin)
    for name, value in task.state_dict().items():
        digest.update(f"{name} {value.dtype} {tuple(value.shape)}".encode())
        digest.update(value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data)
    return digest.hexdigest()
