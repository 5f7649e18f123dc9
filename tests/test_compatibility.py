"""Checkpoints, packed models and saved configs of earlier versions load and give what they gave."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

import img2img
from img2img.cli import main

BEFORE = Path(__file__).parent / "fixtures" / "before_rooms"
"""Made by the version before the package was divided into rooms: runs of 3 steps of tiny networks."""
RESTORING = ("denoise", "colorize", "denoise_uncertain", "inpaint")
AUTOENCODERS = ("autoencode", "vae")
# Exact on the machine that made the fixtures; other processors sum in another order.
CLOSE = {"rtol": 1e-4, "atol": 1e-6}


@pytest.fixture(scope="module")
def outputs():
    with np.load(BEFORE / "outputs.npz") as file:
        return {name: file[name] for name in file.files}


@pytest.mark.parametrize("name", RESTORING)
def test_restoring_checkpoints(name, outputs):
    task = img2img.load(BEFORE / f"{name}.ckpt")
    image = [torch.from_numpy(outputs["image"])] + ([torch.from_numpy(outputs["mask"])] if task.needs_mask else [])
    with torch.inference_mode():
        np.testing.assert_allclose(task(*image).numpy(), outputs[name], **CLOSE)


@pytest.mark.parametrize("name", AUTOENCODERS)
def test_autoencoders(name, outputs):
    task = img2img.load(BEFORE / f"{name}.ckpt")
    small = torch.from_numpy(outputs["small"])
    with torch.inference_mode():
        np.testing.assert_allclose(task(small).numpy(), outputs[name], **CLOSE)
        np.testing.assert_allclose(task.encode(small).numpy(), outputs[f"{name}_latents"], **CLOSE)


def test_scores_and_thresholds(outputs, photos):
    scores = img2img.score(photos / "val", None, model=BEFORE / "autoencode.ckpt", accelerator="cpu")
    assert set(outputs["score_names"]) == set(scores.names)
    found = np.array([[row[name] for name in outputs["score_names"]] for row in scores.rows])
    np.testing.assert_allclose(found, outputs["scores"], rtol=1e-3)
    thresholds = [scores.thresholds[name] for name in outputs["score_names"]]
    np.testing.assert_allclose(thresholds, outputs["thresholds"], rtol=1e-5)


def test_packed_models(outputs):
    with torch.inference_mode():
        found = img2img.load(BEFORE / "packed.safetensors")(torch.from_numpy(outputs["image"])).numpy()
    np.testing.assert_allclose(found, outputs["packed"], **CLOSE)


@pytest.mark.parametrize("name", [*RESTORING, *AUTOENCODERS])
def test_saved_configs_train(name, photos):
    Path("photos").symlink_to(photos, target_is_directory=True)
    shutil.copy(BEFORE / f"{name}.yaml", f"{name}.yaml")
    main(["fit", "--config", f"{name}.yaml", "--trainer.max_steps=1", "--trainer.default_root_dir=runs"])
    assert Path(f"runs/{name}/0/best.ckpt").is_file()


def test_saved_configs_can_be_previewed(photos):
    Path("photos").symlink_to(photos, target_is_directory=True)
    main(["preview", "pairs.png", "--config", str(BEFORE / "denoise.yaml"), "--n", "2"])
    assert Path("pairs.png").is_file()
