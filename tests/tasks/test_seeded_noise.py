import pytest
import torch

from img2img.tasks.seeded_noise import Purpose, normal_noise, uniform_noise


def test_noise_is_that_of_the_sample_the_seed_and_the_purpose():
    both = normal_noise(0, [3, 8], Purpose.TRAINING, [5])
    assert torch.equal(both[1], normal_noise(0, [8], Purpose.TRAINING, [5])[0])
    for other in (
        normal_noise(1, [8], Purpose.TRAINING, [5]),
        normal_noise(0, [8], Purpose.EVALUATION, [5]),
        both[:1],
    ):
        assert not torch.equal(other[0], both[1])
    uniform = uniform_noise(0, range(100), Purpose.DEQUANTISATION, [100])
    assert 0 <= uniform.min() < uniform.max() < 1
    assert uniform.mean() == pytest.approx(0.5, abs=0.01)  # standard error 0.003
