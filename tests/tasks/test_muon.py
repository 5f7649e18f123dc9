"""Orthogonalised momentum for hidden weights, AdamW for the rest."""

import pytest
import torch
from torch import nn

from img2img.networks import RestorationUNet
from img2img.tasks import MuonAdamW
from img2img.tasks.muon import orthogonalise


@pytest.mark.parametrize("shape", [(3, 8, 40), (1, 40, 8), (2, 16, 16)])
def test_singular_values_come_close_to_one_and_directions_stay(shape):
    matrices = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    made = orthogonalise(matrices)
    assert torch.linalg.svdvals(made).min() > 0.6
    assert torch.linalg.svdvals(made).max() < 1.25
    left, _, right = torch.linalg.svd(matrices, full_matrices=False)
    turned = left.mT @ made @ right.mT  # diagonal where the singular vectors are the same
    assert (turned - torch.diag_embed(turned.diagonal(dim1=1, dim2=2))).abs().max() < 1e-3


def test_a_zero_matrix_stays_zero():
    assert (orthogonalise(torch.zeros(2, 4, 9)) == 0).all()


def test_it_is_torchs_iteration():
    muon = pytest.importorskip("torch.optim._muon", reason="torch has Muon from 2.9 on")
    matrix = torch.randn(24, 90, generator=torch.Generator().manual_seed(1))
    expected = muon._zeropower_via_newtonschulz(matrix, (3.4445, -4.7750, 2.0315), 5, 1e-7).float()
    assert (orthogonalise(matrix[None])[0] - expected).abs().max() < 0.02  # torch computes in bfloat16


def test_first_and_last_layer_and_vectors_belong_to_adamw():
    network = RestorationUNet(channels=(8, 16), blocks=1, bias=True)
    groups = {group["muon"]: group["params"] for group in MuonAdamW(network.parameters()).param_groups}
    of_adamw = {id(parameter) for parameter in groups[False]}
    assert {id(network.head.weight), id(network.tail.weight)} < of_adamw
    assert all(parameter.dim() == 4 for parameter in groups[True])
    assert len(groups[True]) + len(groups[False]) == len(list(network.parameters()))


def test_vectors_move_as_torchs_adamw_moves_them():
    ours, theirs = (nn.Parameter(torch.linspace(-1, 1, 7)) for _ in range(2))
    optimizers = (
        MuonAdamW([ours], adamw_lr=0.01, adamw_betas=(0.9, 0.99), weight_decay=0.1),
        torch.optim.AdamW([theirs], lr=0.01, betas=(0.9, 0.99), weight_decay=0.1),
    )
    for step in range(20):
        for parameter, optimizer in zip((ours, theirs), optimizers, strict=True):
            parameter.grad = torch.sin(parameter.detach() * 3 + step)
            optimizer.step()
    assert torch.allclose(ours, theirs, atol=1e-7)


def test_the_size_of_a_hidden_step_does_not_depend_on_the_gradients():
    def step(scale: float) -> torch.Tensor:
        layers = [nn.Parameter(torch.zeros(6, 6, 3, 3)) for _ in range(3)]
        optimizer = MuonAdamW(layers, lr=0.1)
        for layer in layers:
            layer.grad = scale * torch.randn(layer.shape, generator=torch.Generator().manual_seed(2))
        optimizer.step()
        return layers[1].detach()

    assert torch.allclose(step(1.0), step(1000.0), atol=1e-5)
    assert step(1.0).flatten(1).norm() == pytest.approx(0.1 * 6**0.5, rel=0.3)


@pytest.mark.parametrize("wrong", [{"lr": -1.0}, {"momentum": 1.0}, {"weight_decay": -0.1}])
def test_wrong_settings_are_named(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        MuonAdamW([nn.Parameter(torch.zeros(3))], **wrong)


def test_what_has_faded_ends_in_zeros_and_not_in_denormal_numbers():
    matrix = torch.randn(1, 8, 30, generator=torch.Generator().manual_seed(3))
    matrix[:, 2] *= 1e-19  # a dead unit's momentum
    made = orthogonalise(matrix)
    assert (made[:, 2] == 0).all()
    layers = [nn.Parameter(torch.zeros(4, 4)) for _ in range(3)]
    optimizer = MuonAdamW(layers)
    for step in range(2500):
        for layer in layers:
            layer.grad = torch.eye(4) * (step == 0)
        optimizer.step()
    assert (optimizer.state[layers[1]]["momentum"] == 0).all()
