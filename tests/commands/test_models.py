"""The shelf: what stands on it, and that it works."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import img2img
from img2img.cli import main
from img2img.shipped import shipped_models
from img2img.tasks.metrics import psnr
from tests.test_cli import error_of

NAMES = list(shipped_models())
MOST_BYTES, MOST_BYTES_OF_ALL = 6e6, 25e6


def test_the_shelf_is_small():
    sizes = [file.stat().st_size for file in shipped_models().values()]
    assert max(sizes) <= MOST_BYTES
    assert sum(sizes) <= MOST_BYTES_OF_ALL


def test_models_lists_names_with_what_they_do(capsys):
    main(["models"])
    lines = capsys.readouterr().out.splitlines()
    for name, line in zip(NAMES, lines, strict=False):
        assert line.startswith(name)
        assert " MB  " in line
        assert len(line.split(" MB  ")[1]) > 20


@pytest.mark.parametrize("name", NAMES)
def test_every_card_says_what_a_user_must_know(name, capsys):
    main(["models", name])
    card = capsys.readouterr().out
    for heading in ("What it is for", "What it is not for", "How it was trained", "How good it is", "History"):
        assert f"## {heading}" in card
    assert "| " in card
    assert "/work" not in card


def test_a_wrong_name_gets_the_right_ones(photos, capsys):
    assert "did you mean denoise?" in error_of(capsys, "models", "denois")
    assert "the shipped models are colorize, denoise" in error_of(
        capsys, "restore", str(photos), "out", "--model", "nothing"
    )


def test_denoise_restores_a_folder_at_once(photo, tmp_path):
    noise = np.random.default_rng(0).normal(0, 25, photo.shape)
    noisy = np.clip(photo + noise, 0, 255).round().astype(np.uint8)
    (tmp_path / "noisy").mkdir()
    Image.fromarray(noisy).save(tmp_path / "noisy" / "a.png")
    Image.fromarray(noisy[..., 0]).save(tmp_path / "noisy" / "gray.png")
    Path("denoise").mkdir()  # does not shadow the model
    main(["restore", str(tmp_path / "noisy"), "restored", "--model", "denoise"])
    restored = {name: np.array(Image.open(f"restored/{name}.png")) for name in ("a", "gray")}
    before, after = (float(np.mean((image.astype(float) - photo) ** 2)) for image in (noisy, restored["a"]))
    assert 10 * np.log10(before / after) > 8  # dB
    gray = float(np.mean((restored["gray"].astype(float) - photo[..., 0]) ** 2))
    assert 10 * np.log10(before / gray) > 6
    report = json.loads(Path("restored/restore_report.json").read_text())
    assert "denoise" in json.dumps(report)


def test_denoise_is_loaded_measured_and_fine_tuned_from_by_name(photos, capsys):
    import torch

    model = img2img.load("denoise")
    clean = torch.rand(1, 3, 32, 32, generator=torch.Generator().manual_seed(0)) * 0.1 + 0.4
    noise = 25 / 255 * torch.randn(clean.shape, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        assert psnr(model(clean + noise), clean) > 25
    common = ["--config", "denoise.yaml", f"--data.root={photos}", "--trainer.accelerator=cpu"]
    main(["test", *common, "--ckpt_path", "denoise"])
    assert "test/psnr" in capsys.readouterr().out
    quick = [
        "--trainer.max_steps=1",
        "--data.crop_size=32",
        "--data.batch_size=1",
        "--trainer.enable_progress_bar=false",
    ]
    main(["fit", *common, *quick, "--model.weights", "denoise"])
    assert "Done: val PSNR" in capsys.readouterr().out
