from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from img2img.callbacks import DivergenceGuard
from img2img.data import CorruptedPairs
from img2img.tasks import Restoration
from img2img.trainer import Trainer


def trained(photos: Path, clip: float, *callbacks: Any, **options: Any) -> Tensor:
    torch.manual_seed(0)
    task = Restoration(nn.Conv2d(3, 3, 3, padding=1), nn.MSELoss(), warmup_steps=0, **options)
    trainer = Trainer(
        max_steps=4, accelerator="cpu", precision="32-true", gradient_clip_val=clip, callbacks=list(callbacks),
        logger=False, enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False,
        val_check_interval=2, check_val_every_n_epoch=None, num_sanity_val_steps=0,
    )  # fmt: skip
    trainer.fit(task, CorruptedPairs(root=str(photos), crop_size=24, batch_size=2))
    weight = task.network.weight
    assert isinstance(weight, Tensor)
    return weight


@pytest.mark.parametrize("clip", [1e-4, 1e4], ids=["clipped", "not clipped"])
def test_gradients_are_clipped_the_same_whether_their_norm_is_known_or_not(photos: Path, clip: float) -> None:
    options: dict[str, Any] = {"optimizer": lambda weights: torch.optim.SGD(weights, lr=100.0)}
    known, unknown = trained(photos, clip, DivergenceGuard(), **options), trained(photos, clip, **options)
    assert known.equal(unknown)
    assert known.abs().max() > (1 if clip > 1 else 0)  # steps of 100 show unless they are clipped


@pytest.mark.skipif(shutil.which("c++") is None, reason="torch.compile needs a C++ compiler")
def test_a_compiled_network_learns_the_same_and_is_validated_eagerly(photos: Path) -> None:
    torch._dynamo.utils.counters.clear()
    compiled = trained(photos, 1.0, compile=True)
    torch.testing.assert_close(compiled, trained(photos, 1.0))
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] == 1  # one for training, none for the other sizes
