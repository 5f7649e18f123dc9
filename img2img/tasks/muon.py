"""An optimizer that uses Muon for the weights of hidden convolutions and AdamW for all else."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.optim import Optimizer

from img2img.distributed import part_like, whole

# Coefficients of the quintic whose iteration drives singular values towards 1 fastest (Jordan 2024).
_QUINTIC = (3.4445, -4.7750, 2.0315)


class MuonAdamW(Optimizer):
    """Muon for hidden weights, AdamW for the first and last layer, biases and other vectors.

    Muon (Jordan et al., "Muon: An optimizer for hidden layers in neural networks", 2024) replaces the momentum of a
    weight matrix by the nearest orthogonal matrix, so that all directions of a layer learn equally fast. A
    convolution's weight is the matrix out × (in · height · width), a transposed one's in × (out · height · width).
    `torch.optim.Muon` accepts only matrices, and needs a second optimizer for the rest.

    Args:
        params: The network's parameters, in the order of its layers: the first and the last weight with two or more
            axes count as the first and the last layer.
        lr: Peak learning rate of the hidden weights; the size of a step does not depend on the gradient's.
        momentum: Fraction of the gradient's running mean that each step keeps.
        weight_decay: Decoupled weight decay of all parameters, as a multiple of their learning rates. Without it the
            weights of wide layers keep growing, and units die.
        steps: Newton-Schulz iterations.
        adamw_lr: Peak learning rate of the other parameters; None for 0.15 · `lr`.
        adamw_betas: AdamW's decay rates of the gradient's mean and square.
        adamw_eps: AdamW's term for stability.

    Raises:
        ValueError: If a learning rate, decay or momentum is out of range.
    """

    def __init__(
        self,
        params: Iterable[Tensor],
        lr: float = 0.01,
        momentum: float = 0.95,
        weight_decay: float = 0.1,
        steps: int = 5,
        adamw_lr: float | None = None,
        adamw_betas: tuple[float, float] = (0.9, 0.99),
        adamw_eps: float = 1e-8,
    ) -> None:
        adamw_lr = 0.15 * lr if adamw_lr is None else adamw_lr
        fractions = {"momentum": momentum, "adamw_betas[0]": adamw_betas[0], "adamw_betas[1]": adamw_betas[1]}
        sizes = {"lr": lr, "adamw_lr": adamw_lr, "weight_decay": weight_decay, "adamw_eps": adamw_eps}
        wrong = [f"{name} must be in [0, 1), not {value}" for name, value in fractions.items() if not 0 <= value < 1]
        wrong += [f"{name} must be at least 0, not {value}" for name, value in sizes.items() if value < 0]
        if wrong:
            raise ValueError("; ".join(wrong))
        everything = list(params)
        weights = [parameter for parameter in everything if parameter.dim() >= 2]
        hidden = [parameter for parameter in weights[1:-1] if parameter.shape[1] > 1]  # depthwise ones are not matrices
        of_muon = set(map(id, hidden))
        rest = [parameter for parameter in everything if id(parameter) not in of_muon]
        muon = {"params": hidden, "muon": True, "lr": lr, "momentum": momentum, "steps": steps}
        adamw = {"params": rest, "muon": False, "lr": adamw_lr, "betas": tuple(adamw_betas), "eps": adamw_eps}
        super().__init__([group for group in (muon, adamw) if group["params"]], {"weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Takes one step; returns what the closure returns, if there is one."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            update = self._muon if group["muon"] else self._adamw
            update(group, [parameter for parameter in group["params"] if parameter.grad is not None])
        return loss

    def _muon(self, group: dict[str, Any], parameters: list[Tensor]) -> None:
        by_shape: dict[tuple[int, int], list[Tensor]] = {}
        for parameter in parameters:
            by_shape.setdefault((len(parameter), parameter[0].numel()), []).append(parameter)
        for (rows, columns), alike in by_shape.items():
            momenta = []
            for parameter in alike:
                state, gradient = self.state[parameter], parameter.grad
                assert gradient is not None
                if not state:
                    state["momentum"] = torch.zeros_like(gradient)
                # Fading values must become zeros, not denormal numbers, see `orthogonalise`.
                state["momentum"] = F.hardshrink(state["momentum"].lerp_(gradient, 1 - group["momentum"]), 1e-30)
                # Nesterov's, in channels-last memory order: the order of the columns does not matter.
                direction = whole(gradient.lerp(state["momentum"], group["momentum"]))
                momenta.append(direction.movedim(1, -1).flatten(1))
            # Matrices with more rows than columns get longer steps, so that outputs change equally.
            length = group["lr"] * math.sqrt(max(1, rows / columns))
            updates = orthogonalise(torch.stack(momenta), group["steps"])
            for parameter, update in zip(alike, updates, strict=True):
                last = parameter.movedim(1, -1)
                step = part_like(update.reshape(last.shape).movedim(-1, 1), parameter).movedim(1, -1)
                last.mul_(1 - group["lr"] * group["weight_decay"]).add_(step, alpha=-length)

    def _adamw(self, group: dict[str, Any], parameters: list[Tensor]) -> None:
        beta1, beta2 = group["betas"]
        for parameter in parameters:
            state, gradient = self.state[parameter], parameter.grad
            assert gradient is not None
            if not state:
                state["step"] = torch.zeros(())  # a tensor, which checkpoints keep as it is
                state["mean"], state["square"] = torch.zeros_like(gradient), torch.zeros_like(gradient)
            state["step"] += 1
            count = int(state["step"])
            state["mean"].lerp_(gradient, 1 - beta1)
            state["square"].mul_(beta2).addcmul_(gradient, gradient, value=1 - beta2)
            deviation = (state["square"] / (1 - beta2**count)).sqrt_().add_(group["eps"])
            parameter.mul_(1 - group["lr"] * group["weight_decay"])
            parameter.addcdiv_(state["mean"], deviation, value=-group["lr"] / (1 - beta1**count))


def orthogonalise(matrices: Tensor, steps: int = 5) -> Tensor:
    """Brings the singular values of matrices close to 1, to about [0.7, 1.2], by a Newton-Schulz iteration.

    The iteration runs on the Gram matrix of the shorter side, which gives the same polynomial of the matrix with two
    fifths of the multiplications if one side is long, as for 3×3 convolutions.

    Args:
        matrices: K×M×N floats.
        steps: Iterations of the quintic.

    Returns:
        K×M×N; zeros where a matrix is zero.
    """
    tall = matrices.shape[1] > matrices.shape[2]
    x = matrices.mT if tall else matrices
    # A dead unit gets no gradient, and its momentum fades. Products of such numbers are denormal, which processors
    # compute a hundred times more slowly: training slowed to a third.
    x = F.hardshrink(x / (x.norm(dim=(1, 2), keepdim=True) + 1e-7), 1e-12)
    gram = x @ x.mT
    a, b, c = _QUINTIC
    eye = torch.eye(gram.shape[1], dtype=gram.dtype, device=gram.device)
    product: Tensor | None = None
    for step in range(steps):
        polynomial = a * eye + torch.baddbmm(gram, gram, gram, beta=b, alpha=c)
        product = polynomial if product is None else polynomial @ product
        if step + 1 < steps:
            gram = polynomial @ gram @ polynomial
    result = x if product is None else product @ x
    return result.mT if tall else result
