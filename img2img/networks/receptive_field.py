"""Receptive fields of networks: the halo that makes it exact to process an image in tiles."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

WIDTHS = (16, 64, 128)
"""Widths of the probed strips in pixels; the first that a network accepts is used."""
UNIT = 64
"""Lengths of strips are multiples of this, in pixels: networks that halve an image often accept no others."""
BATCH = 1 << 16
"""Pixels per batch while a network is probed."""

Span = tuple[int, int]
"""First and last position, on one axis."""


@dataclass(frozen=True)
class ReceptiveField:
    """A network's receptive field, if its input starts at a multiple of `stride` in the image.

    Attributes:
        radius: In input pixels: an output pixel depends on no input pixel farther away than this, on either axis. If
            the output is larger than the input, output pixel p belongs to input pixel p // scale.
        stride: In input pixels: shifting the input by a multiple of it only shifts the output.
        scale: Output pixels per input pixel and axis.
    """

    radius: int
    stride: int
    scale: int = 1


def receptive_field_of(network: nn.Module, in_channels: int) -> ReceptiveField | None:
    """Returns the receptive field that a network declares, else the one that probing finds and a comparison confirms.

    Args:
        network: Maps N×C×H×W to N×C'×(scale·H)×(scale·W). It is not changed.
        in_channels: C.

    Returns:
        The receptive field; None if an output pixel may depend on pixels anywhere (pooling over the image, instance
        norm, attention), or if probing finds no answer: tiles must then overlap and be blended.
    """
    declared = declared_receptive_field(network)
    if declared is not None:
        return declared
    probed = probe_receptive_field(network, in_channels)
    return probed if probed is not None and confirm_receptive_field(network, probed, in_channels) else None


def declared_receptive_field(network: nn.Module) -> ReceptiveField | None:
    """Returns what a network declares in the attributes `receptive_field` and `stride`, and `scale` if that is not 1.

    Returns:
        None if `receptive_field` or `stride` is missing, or any of the three is not a whole number.
    """
    radius, stride = getattr(network, "receptive_field", None), getattr(network, "stride", None)
    scale = getattr(network, "scale", 1)
    if isinstance(radius, int) and isinstance(stride, int) and isinstance(scale, int):
        return ReceptiveField(radius, stride, scale)
    return None


def radius_of(spread: Callable[[int], Span], stride: int) -> int:
    """Returns a network's radius, if the output rows `spread(row)` are those that depend on the input's `row`."""
    spans = [(row, *spread(row)) for row in range(stride)]
    return max(max(row - first, last - row) for row, first, last in spans)


def probe_receptive_field(network: nn.Module, in_channels: int, limit: int = 1024) -> ReceptiveField | None:
    """Finds a network's receptive field by putting NaN into one input row: which output rows become NaN?

    NaN times 0 is NaN, so small weights, zero weights and closed ReLUs hide nothing. Gradients would miss them, and
    fade with distance until rounding hides them. The probe runs a copy of the network, in float32 on the CPU, in which
    convolutions average (see `_Averaging`): the same positions become NaN at a hundredth of the work. This also avoids
    kernels that spread NaN farther than a convolution does: NNPACK's Winograd and Fourier transforms do, and run where
    oneDNN does not.

    Every row of a window is probed, and the window holds at least two periods of the answer: the stride is the period.
    The stride is also a multiple of what sizes must be divisible by, and of a whole number `stride` that a network
    declares without a receptive field, because it pads to it.

    Args:
        network: As for `receptive_field_of`.
        in_channels: As for `receptive_field_of`.
        limit: Largest radius to look for, in pixels.

    Returns:
        The receptive field. None if the radius is larger than `limit`; the network uses attention or Fourier
        transforms (shifted attention windows have a large radius and a long period, and the search would take
        minutes); it hides NaN or accepts none of the sizes tried; its output's size is not a multiple of its input's;
        or the answer has no period (as with `align_corners`).
    """
    network = _on_cpu(network)
    sizes = _sizes(network, in_channels)
    if sizes is None or _attends(network, in_channels, *sizes):
        return None
    width, multiple = sizes
    found = []
    for axis in (-2, -1):
        along = _Probe(network, in_channels, width, axis).receptive_field(limit)
        if along is None:
            return None
        found.append(along)
    rows, columns = found
    if rows.scale != columns.scale:
        return None
    declared = getattr(network, "stride", 1)
    multiple = math.lcm(multiple, declared if isinstance(declared, int) and declared > 0 else 1)
    stride = math.lcm(rows.stride, columns.stride, multiple)
    return ReceptiveField(max(rows.radius, columns.radius), stride, rows.scale)


def confirm_receptive_field(network: nn.Module, claim: ReceptiveField, in_channels: int) -> bool:
    """Returns whether noise gives the same output, up to 1e-4, as one strip and as two tiles with the claimed halo.

    An empirical check. It can disprove the claim but not prove it, as distant pixels may have little effect.

    Args:
        network: As for `receptive_field_of`.
        claim: The receptive field to check.
        in_channels: As for `receptive_field_of`.
    """
    network = _on_cpu(network)
    sizes = _sizes(network, in_channels)
    if sizes is None:
        return False
    unit, stride, radius, scale = math.lcm(claim.stride, UNIT), claim.stride, claim.radius, claim.scale
    tile = _multiple(radius + 1, unit)
    start = unit if unit // stride % 2 else unit + stride  # odd, to expose a stride that is half the true one
    generator = torch.Generator().manual_seed(0)
    for axis in (-2, -1):
        image = torch.rand(1, in_channels, start + tile, sizes[0], generator=generator)
        image = image if axis == -2 else image.mT.contiguous()
        with torch.inference_mode():
            whole = network(image)
            head = network(image.narrow(axis, 0, tile))
            rest = network(image.narrow(axis, start, tile))
        kept = (tile - radius) * scale
        pairs = [
            (head.narrow(axis, 0, kept), whole.narrow(axis, 0, kept)),
            (rest.narrow(axis, radius * scale, kept), whole.narrow(axis, (start + radius) * scale, kept)),
        ]
        tolerance = 1e-4 * max(1.0, float(whole.abs().max()))
        if not all(bool(((part - same).abs() <= tolerance).all()) for part, same in pairs):
            return False
    return True


def _multiple(least: int, of: int) -> int:
    return -(-least // of) * of


def _on_cpu(network: nn.Module) -> nn.Module:
    return copy.deepcopy(network).to("cpu", torch.float32).eval()


def _sizes(network: nn.Module, in_channels: int) -> tuple[int, int] | None:
    """Returns the first of `WIDTHS` that a network accepts, and the power of two that lengths must be multiples of."""

    def takes(length: int, width: int) -> bool:
        image = torch.rand(1, in_channels, length, width)
        try:
            with torch.no_grad(), _Averaging():
                for strip in (image, image.mT.contiguous()):
                    (height, wide), output = strip.shape[-2:], network(strip)
                    scale = output.shape[-1] // wide
                    if tuple(output.shape[-2:]) != (height * scale, wide * scale):
                        return False
        except Exception:  # third-party networks raise anything for a size they do not accept
            return False
        return True

    for width in WIDTHS:
        for multiple in (1, 2, 4, 8, 16, 32, 64):
            if takes(2 * UNIT + multiple, width):
                return width, multiple
    return None


def _attends(network: nn.Module, in_channels: int, width: int, multiple: int) -> bool:
    with torch.no_grad(), _Averaging() as mode:
        network(torch.rand(1, in_channels, _multiple(UNIT, multiple), width))
    return bool(mode.attends)


class _Averaging(TorchDispatchMode):  # type: ignore[no-untyped-call]  # torch's modes are untyped
    """Makes every convolution average its taps and channels instead, and records tensor sizes and attention.

    The output is NaN at the same positions: each output channel depends on all input channels of its group, at all
    taps.

    Attributes:
        largest: Number of elements of the largest tensor.
        attends: Whether the network used attention or a Fourier transform.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.largest, self.attends = 0, False

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if func is torch.ops.aten.convolution.default:
            return self._average(*args, **(kwargs or {}))
        self.attends |= any(word in str(func) for word in ("softmax", "dot_product_attention", "fft"))
        result = func(*args, **(kwargs or {}))
        if isinstance(result, Tensor):
            self.largest = max(self.largest, result.numel())
        return result

    @staticmethod
    def _average(x: Tensor, weight: Tensor, bias: Tensor | None, *geometry: Any) -> Tensor:
        *where, transposed, output_padding, groups = geometry
        batch, channels, *sides = x.shape
        means = x.reshape(batch * groups, channels // groups, *sides).mean(1, keepdim=True).double()  # not for NNPACK
        taps = torch.full((1, 1, *weight.shape[2:]), 1 / weight[0, 0].numel(), dtype=torch.double)
        y: Tensor = torch.ops.aten.convolution.default(means, taps, None, *where, transposed, output_padding, 1)
        per_group = weight.shape[1] if transposed else weight.shape[0] // groups
        return y.to(x.dtype).repeat_interleave(per_group, 1).reshape(batch, groups * per_group, *y.shape[2:])


class _Probe:
    """Finds which output positions of a network depend on one input position, along one axis."""

    def __init__(self, network: nn.Module, in_channels: int, width: int, axis: int) -> None:
        self.network, self.in_channels, self.width, self.axis = network, in_channels, width, axis
        self.scale, self.largest = 1, 0

    def receptive_field(self, limit: int) -> ReceptiveField | None:
        """Returns the receptive field along this axis, see `probe_receptive_field`."""
        window = UNIT
        while window <= 4 * UNIT:
            spans = self._window(window, limit)
            if spans is None or not any(spans):
                return None
            for period in range(1, window // 2 + 1):
                if all(spans[k + period] == self._shifted(spans[k], period) for k in range(window - period)):
                    seen = [(k, span[0] // self.scale, span[1] // self.scale) for k, span in enumerate(spans) if span]
                    radius = max(max(k - first, last - k) for k, first, last in seen)
                    return ReceptiveField(radius, period, self.scale) if radius <= limit else None
            window *= 2
        return None

    def _shifted(self, span: Span | None, by: int) -> Span | None:
        return span and (span[0] + by * self.scale, span[1] + by * self.scale)

    def _window(self, window: int, limit: int) -> list[Span | None] | None:
        """Returns the spans of `window` successive positions far from the borders, relative to the first position."""
        most, length, before = _multiple(2 * (limit + window), 2 * UNIT), 2 * window, 0
        while True:
            start, self.largest = (length - window) // 2, 0
            ends = self._inside([start, start + window - 1], length)  # if these reach a border, skip the others
            if ends is not None:
                seen = [(a // self.scale, b // self.scale) for a, b in filter(None, ends)]
                far = max((max(start - a, b - start - window) for a, b in seen), default=0)
                enough = min(length, _multiple(window + 2 * far + 4, 2 * UNIT))
                start = (enough - window) // 2
                spans = self._inside(range(start, start + window), enough)
                if spans is not None:
                    return [self._shifted(span, -start) for span in spans]
            elif before and self.largest > 3 * before:
                return None  # memory grows with the square: all positions are compared, as in attention
            if length >= most:
                return None
            length, before = min(2 * length, most), self.largest

    def _inside(self, positions: Sequence[int], length: int) -> list[Span | None] | None:
        """Returns each position's span in a strip; None if one touches a border or the output size does not fit."""
        spans: list[Span | None] = []
        size = max(1, BATCH // (length * self.width))
        for begin in range(0, len(positions), size):
            batch = torch.tensor(positions[begin : begin + size])
            image = torch.full((len(batch), self.in_channels, length, self.width), 0.5)
            image[torch.arange(len(batch)), :, batch] = torch.nan
            image = image if self.axis == -2 else image.mT.contiguous()
            averaging = _Averaging()
            with torch.no_grad(), averaging:  # in inference mode convolutions would bypass it
                output = self.network(image)
            self.largest = max(self.largest, averaging.largest)
            self.scale = output.shape[-1] // image.shape[-1]
            if tuple(output.shape[-2:]) != tuple(self.scale * side for side in image.shape[-2:]):
                return None
            for row in output.isnan().any(1).any(-1 if self.axis == -2 else -2):
                reached = row.nonzero().ravel().tolist()
                if reached and (reached[0] == 0 or reached[-1] == len(row) - 1):
                    return None
                spans.append((reached[0], reached[-1]) if reached else None)
        return spans
