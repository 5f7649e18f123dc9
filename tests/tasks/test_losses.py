import math

import pytest
import torch

from img2img.tasks import FocalDice, PSNRLoss


def test_a_mask_that_is_found_costs_nothing_and_a_missed_one_costs_most():
    mask = torch.zeros(1, 1, 40, 40)
    mask[..., :4, :5] = 1
    found, missed, everything = (40 * mask - 20, torch.full_like(mask, -20), torch.full_like(mask, 20))
    loss = FocalDice()
    assert float(loss(found, mask)) == pytest.approx(0, abs=1e-5)
    assert float(loss(missed, mask)) > float(loss(found, mask)) + 0.9
    assert float(loss(everything, mask)) > float(loss(missed, mask))


def test_its_parts_are_those_of_the_papers():
    mask, logits = torch.tensor([1.0, 1.0, 0.0, 0.0]), torch.tensor([0.0, 3.0, -1.0, 2.0])
    p = [1 / (1 + math.exp(-value)) for value in logits.tolist()]
    right = [p[0], p[1], 1 - p[2], 1 - p[3]]
    weights = [0.75, 0.75, 0.25, 0.25]
    focal = [w * (1 - q) ** 1.5 * -math.log(q) for w, q in zip(weights, right, strict=True)]
    assert float(FocalDice(0.75, 1.5, dice=0)(logits, mask)) == pytest.approx(sum(focal) / 4, rel=1e-5)
    even = [(1 - q) ** 2 * -math.log(q) for q in right]
    assert float(FocalDice(dice=0)(logits, mask)) == pytest.approx(sum(even) / 4, rel=1e-5)
    dice = 1 - (2 * (p[0] + p[1]) + 1) / (sum(q * q for q in p) + 2 + 1)
    with_dice = float(FocalDice(0.75, 1.5, dice=2)(logits, mask))
    assert with_dice == pytest.approx(sum(focal) / 4 + 2 * dice, rel=1e-5)


def test_images_without_a_mask_have_a_finite_gradient():
    logits = torch.zeros(2, 1, 8, 8, requires_grad=True)
    FocalDice()(logits, torch.zeros(2, 1, 8, 8)).backward()
    assert (logits.grad > 0).all(), "towards a lower probability"
    assert logits.grad.isfinite().all()


def test_psnr_loss_is_the_mean_psnr_of_the_images():
    target = torch.full((2, 3, 8, 8), 0.5)
    output = target + torch.tensor([0.01, 0.1])[:, None, None, None]
    assert float(PSNRLoss(floor=1e-9)(output, target)) == pytest.approx(-(40 + 20) / 2, abs=1e-3)


def test_psnr_loss_pulls_weak_and_strong_noise_alike_and_lets_good_images_be():
    output = torch.stack([torch.full((1, 8, 8), error) for error in (1e-5, 0.02, 0.2)]).requires_grad_()
    PSNRLoss()(output, torch.zeros(3, 1, 8, 8)).backward()
    pull = output.grad.flatten(1).norm(dim=1) * output.detach().flatten(1).norm(dim=1)  # per relative change of error
    assert float(pull[1] / pull[2]) == pytest.approx(1, rel=0.05)
    assert pull[0] < 1e-3 * pull[2]
    with pytest.raises(ValueError, match="floor must be positive"):
        PSNRLoss(floor=0)
