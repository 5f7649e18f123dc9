"""Networks from elsewhere, named by class path."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

import img2img
from img2img.cli import main
from img2img.networks import Padded

DOCUMENTED = Path(__file__).parents[2] / "docs" / "third_party_network.yaml"


class Picky(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        assert x.shape[-1] % 8 == x.shape[-2] % 8 == 0
        return x * 2


@pytest.mark.parametrize(("height", "width"), [(1, 1), (8, 16), (9, 31)])
def test_any_size_goes_through_a_network_that_is_picky(height, width):
    image = torch.rand(2, 3, height, width)
    assert torch.equal(Padded(Picky(), 8)(image), image * 2)
    with pytest.raises(ValueError, match="at least 1"):
        Padded(Picky(), 0)


def test_the_documented_config_trains_a_network_from_elsewhere(photos, photo):
    pytest.importorskip("segmentation_models_pytorch", reason="the extra third-party is not installed")
    flags = [f"--data.root={photos}", "--data.crop_size=32", "--data.batch_size=2", "--trainer.accelerator=cpu"]
    main(["fit", "--config", str(DOCUMENTED), *flags, "--trainer.max_steps=2"])
    run = Path("runs/third_party_network/0")
    main(["test", "--config", str(DOCUMENTED), *flags, "--ckpt_path=best"])
    predict = ["--ckpt_path=best", f"--restore.input={photos}", "--restore.output=restored"]
    main(["predict", "--config", str(DOCUMENTED), *flags, *predict])
    assert len(list(Path("restored").rglob("*.png"))) == 10
    with pytest.raises(img2img.tasks.checkpoint.CheckpointError, match="outside the trusted packages"):
        img2img.load(run / "best.ckpt")
    Image.fromarray(photo[:45, :70]).save("a.png")
    trust = ["--trust", "segmentation_models_pytorch"]
    main(["restore", "a.png", "b.png", "--model", str(run / "best.ckpt"), *trust])
    assert np.array(Image.open("b.png")).shape == (45, 70, 3)
