import numpy as np
import torch

from img2img.tasks.pca import fit_principal


def test_components_pass_through_a_checkpoint(tmp_path):
    images = np.random.default_rng(0).random((40, 1, 4, 4), np.float32)
    fit = fit_principal([images[:20], images[20:]], 3)
    torch.save(fit.plain(), tmp_path / "fit.pt")
    plain = torch.load(tmp_path / "fit.pt", weights_only=True)  # which refuses numpy's numbers
    assert plain["residual"] == fit.residual
    assert torch.equal(plain["axes"], fit.axes)
