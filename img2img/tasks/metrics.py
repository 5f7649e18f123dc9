"""Image metrics, such as PSNR and SSIM; a task takes a list of them in YAML."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torchmetrics.functional.classification import binary_average_precision
from torchmetrics.functional.image import structural_similarity_index_measure

from img2img.tasks.colour import chroma

MAX_PSNR = 100.0  # dB
WINDOW = 11
"""Side of SSIM's window in pixels."""


class Images(NamedTuple):
    """One image before and after, 1×C×H×W float32 in [0, 1], with input and output rounded to 8 bits.

    Attributes:
        input: The network's input, with the target's number of channels.
        output: The task's output.
        target: The ground truth.
        mask: 1×1×H×W, 1 in the hole; all zeros where nothing is missing.
        mask_found: The task's estimate of the mask, 1×1×H×W in [0, 1]; None for tasks without one.
    """

    input: Tensor
    output: Tensor
    target: Tensor
    mask: Tensor
    mask_found: Tensor | None = None


class Metric(nn.Module, ABC):
    """Base class of metrics of one image; a module, so that a recipe can name it.

    Attributes:
        name: Name of the output's value; the input's, where it makes sense, is `<name>_input`.
        words: Template of a caption, with {before} and {after}; empty for metrics without such a pair.
    """

    name: str
    words: str = ""

    @abstractmethod
    def forward(self, images: Images) -> dict[str, float]:
        """Returns values by name; empty if the image has nothing to measure."""

    def caption(self, values: Mapping[str, float]) -> str:
        """Returns a caption for the values of one image, or for means; empty if they are missing."""
        before, after = values.get(f"{self.name}_input"), values.get(self.name)
        if before is None or after is None:
            return ""
        return self.words.format(before=f"{before:.2f}", after=f"{after:.2f}")


class PSNR(Metric):
    """Peak signal-to-noise ratio in dB over all pixels and channels: `psnr` and `psnr_input`."""

    name = "psnr"
    words = "PSNR {before} to {after} dB"

    def forward(self, images: Images) -> dict[str, float]:
        """Returns both values."""
        return {"psnr": psnr(images.output, images.target), "psnr_input": psnr(images.input, images.target)}


class SSIM(Metric):
    """Structural similarity (Wang et al. 2004; torchmetrics) of the output: `ssim`; no value below 11×11 pixels."""

    name = "ssim"

    def forward(self, images: Images) -> dict[str, float]:
        """Returns the value."""
        if min(images.target.shape[-2:]) < WINDOW:
            return {}
        value = structural_similarity_index_measure(images.output, images.target, data_range=1.0)
        return {"ssim": float(value)}  # type: ignore[arg-type]


class HolePSNR(Metric):
    """PSNR in dB over the hole alone: `psnr_hole` and `psnr_hole_input`; no value without a hole."""

    name = "psnr_hole"
    words = "in the hole {before} to {after} dB"

    def forward(self, images: Images) -> dict[str, float]:
        """Returns both values."""
        hole = images.mask.bool().expand_as(images.target)
        if not hole.any():
            return {}
        target = images.target[hole]
        return {"psnr_hole": psnr(images.output[hole], target), "psnr_hole_input": psnr(images.input[hole], target)}


class MaskPrecision(Metric):
    """Average precision over the pixels of the mask that a task finds, `pixel_ap`; no value without a mask."""

    name = "pixel_ap"

    def forward(self, images: Images) -> dict[str, float]:
        """Returns the value; pixels that are replaced for more than a half are masked."""
        truth = images.mask.flatten() > 0.5
        if images.mask_found is None or not truth.any():
            return {}
        return {"pixel_ap": float(binary_average_precision(images.mask_found.flatten(), truth.long()))}

    def caption(self, values: Mapping[str, float]) -> str:
        """Returns a caption, after the AUROC of images if the task measures it."""
        pixels, whole = values.get("pixel_ap"), values.get("auroc")
        if pixels is None:
            return ""
        return ("" if whole is None else f"AUROC {whole:.3f}, ") + f"pixel AP {pixels:.3f}"


class ChromaPSNR(Metric):
    """PSNR in dB of Cb and Cr (Rec. 601, range 1): `psnr_chroma` and `psnr_chroma_input`."""

    name = "psnr_chroma"
    words = "chroma {before} to {after} dB"

    def forward(self, images: Images) -> dict[str, float]:
        """Returns both values; no value for gray targets."""
        if images.target.shape[1] != 3:
            return {}
        target = chroma(images.target)
        after, before = (psnr(chroma(image), target) for image in (images.output, images.input))
        return {"psnr_chroma": after, "psnr_chroma_input": before}


class DeltaE2000(Metric):
    """Mean colour difference CIEDE2000 (scikit-image; 1 is about what an eye can tell): `delta_e`, `delta_e_input`."""

    name = "delta_e"
    words = "CIEDE2000 {before} to {after}"  # no ΔE: Pillow's font has no Δ

    def forward(self, images: Images) -> dict[str, float]:
        """Returns both values; no value for gray targets."""
        if images.target.shape[1] != 3:
            return {}
        from skimage.color import deltaE_ciede2000, rgb2lab  # takes 0.3 s to import; only this metric needs it

        output, seen, target = (
            rgb2lab(image[0].permute(1, 2, 0).cpu().numpy()) for image in (images.output, images.input, images.target)
        )
        after, before = (float(deltaE_ciede2000(target, image).mean()) for image in (output, seen))  # type: ignore[no-untyped-call]
        return {"delta_e": after, "delta_e_input": before}


class Colorfulness(Metric):
    """Colourfulness of output and of target (Hasler & Süsstrunk 2003): `colorfulness`, `colorfulness_target`.

    0 is gray, 15 slightly, 33 moderately, 45 averagely, 59 quite and 82 highly colourful (their table 2).
    """

    name = "colorfulness"

    def forward(self, images: Images) -> dict[str, float]:
        """Returns both values; no value for gray targets."""
        if images.target.shape[1] != 3:
            return {}
        return {"colorfulness": colorfulness(images.output), "colorfulness_target": colorfulness(images.target)}


def as_8_bit(image: Tensor) -> Tensor:
    """Clamps to [0, 1] and rounds to the 256 levels of an 8-bit file."""
    return (image.clamp(0, 1) * 255).round() / 255


def psnr(image: Tensor, target: Tensor) -> float:
    """Returns the peak signal-to-noise ratio in dB of images in [0, 1], over all pixels and channels.

    At most 100 dB, also for equal images: one infinite value would make every mean infinite.
    """
    error = torch.mean((image - target).float() ** 2)
    return min(float(-10 * torch.log10(error)), MAX_PSNR)  # in this order NaN stays NaN


def similarities(image: Tensor, target: Tensor) -> Tensor:
    """Returns the structural similarity around each value of N×C×H×W in [0, 1]; images are mirrored at their edges."""
    return structural_similarity_index_measure(image, target, data_range=1.0, return_full_image=True)[1]


def colorfulness(image: Tensor) -> float:
    """Returns Hasler & Süsstrunk's M3 of 1×3×H×W in [0, 1], in their 8-bit units."""
    red, green, blue = (image[0] * 255).unbind(0)
    opponent = torch.stack([red - green, (red + green) / 2 - blue]).flatten(1)
    spread, mean = opponent.std(1, correction=0).norm(), opponent.mean(1).norm()
    return float(spread + 0.3 * mean)
