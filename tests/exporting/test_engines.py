"""Other runtimes restore as torch does: in tiles, with masks, sigma and colour, and under the rules of every run."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import img2img
from img2img.cli import main
from img2img.errors import UserError
from img2img.exporting import engines, peak
from img2img.exporting.engines import Trial, on_engine
from img2img.exporting.exported_task import ExportedRestoration, open_exported
from img2img.exporting.sessions import ENGINES
from tests.commands.models import save_model
from tests.exporting.models import colouriser, denoiser, filler, uncertain


@pytest.fixture
def photos(photo) -> Path:
    Path("photos").mkdir()
    Image.fromarray(photo[:150, :170]).save("photos/a.png")
    Image.fromarray(photo[:60, :50, 0]).save("photos/gray.png")
    return Path("photos")


@pytest.fixture
def model() -> Path:
    return save_model(Path("model.ckpt"), 0.1)


def pixels(folder: str, name: str) -> np.ndarray:
    return np.asarray(Image.open(f"{folder}/{name}")).astype(int)


@pytest.mark.parametrize("engine", ENGINES)
def test_an_engine_restores_folders_as_torch_does(photos, model, engine):
    for folder, more in (("torch", []), (engine, ["--engine", engine])):
        command = ["restore", str(photos), f"by_{folder}", "--model", str(model), "--tile", "64", *more]
        main([*command, "--accelerator", "cpu", "--precision", "32-true"])
    for name in ("a.png", "gray.png"):
        found, expected = pixels(f"by_{engine}", name), pixels("by_torch", name)
        assert np.abs(found - expected).max() <= 1
        assert np.mean(found == expected) > 0.999
        assert np.abs(found - pixels("photos", name)).max() > 10  # it did something


def test_an_exported_file_is_a_model(photos, model):
    main(["export", str(model), "model.onnx"])
    main(["restore", str(photos), "by_file", "--model", "model.onnx", "--tile", "64"])
    main(["restore", str(photos), "by_torch", "--model", str(model), "--precision", "32-true"])
    assert np.abs(pixels("by_file", "a.png") - pixels("by_torch", "a.png")).max() <= 1
    report = json.loads(Path("by_file/restore_report.json").read_text())
    assert report["restored"] == 2
    assert list(Path("by_file").glob("*.png"))


def test_a_run_on_one_engine_is_not_continued_on_another(photos, model):
    for before in (0, 2):
        done = img2img.restore(photos, "out", model, engine="onnxruntime", precision="32-true")
        assert done.before == before
    with pytest.raises(UserError, match="exists"):
        img2img.restore(photos, "out", model, precision="32-true")


@pytest.mark.slow
def test_masks_sigma_and_colour_work_alike(photo):
    image = torch.from_numpy(photo[:70, :90].copy()).permute(2, 0, 1)[None] / 255
    mask = torch.zeros(1, 1, 70, 90)
    mask[..., 20:40, 30:60] = 1
    filling, unsure, colouring = (on_engine(make(), "onnxruntime") for make in (filler, uncertain, colouriser))
    with torch.inference_mode():
        filled = filling.restore_tile(image, mask)
        assert torch.allclose(filled, filler().restore_tile(image, mask), atol=1e-5)
        assert torch.equal(filled[mask.expand_as(image) == 0], image[mask.expand_as(image) == 0])
        gray = image[:, :1]  # through a network for colour
        assert torch.equal(filling.restore_tile(gray, mask)[mask == 0], gray[mask == 0])
        for seen in (image, gray):
            expected = uncertain().restore_tile(seen, uncertainty=True)
            assert torch.allclose(unsure.restore_tile(seen, uncertainty=True), expected, atol=1e-5)
            assert torch.allclose(colouring.restore_tile(seen), colouriser().restore_tile(seen), atol=1e-5)
        ensemble = unsure.restore_tile(image, self_ensemble=True)
        assert torch.allclose(ensemble, uncertain().restore_tile(image, self_ensemble=True), atol=1e-5)


def test_auto_takes_what_is_faster_and_gives_the_same_image(monkeypatch):
    fast = {name: Trial(1, 0, 0, 9, 300) for name in ENGINES}
    slow = Trial(1, 0, 0, 5, 300)

    def chosen(**trials: Trial) -> str:
        found = {"torch": slow} | fast | trials
        monkeypatch.setattr(engines, "try_engines", lambda *_: found)
        engines_there = engines.engines_folder()
        for path in engines_there.glob("*.json") if engines_there.is_dir() else ():
            path.unlink()
        return getattr(on_engine(denoiser(), "auto"), "engine", "torch")

    assert chosen(mnn=Trial(1, 0, 0, 10, 300)) == "mnn"
    assert chosen(mnn=Trial(0.998, 0, 0, 10, 300)) == "onnxruntime"  # the fastest, but of other images
    assert chosen(mnn=Trial(1, 0.002, 0, 10, 300)) == "onnxruntime"
    assert chosen(torch=Trial(1, 0, 0, 8.9, 300)) == "torch"  # as good as equal
    assert getattr(on_engine(denoiser(), "auto", cpu=False), "engine", "torch") == "torch"
    monkeypatch.setattr(engines, "try_engines", lambda *_: {"mnn": Trial(0.98, 0, 0, 10, 300)})
    with pytest.raises(UserError, match=r"--engine mnn does something else than torch: 98\.00% of the values"):
        on_engine(denoiser(), "mnn")


def test_a_trial_tells_an_engine_that_does_something_else():
    task, other = denoiser(), denoiser()
    with torch.no_grad():
        other.network.tail.weight *= 0.9
    Path("other").mkdir()
    img2img.export(other, "other/model.onnx")
    trials = engines.try_engines(task, Path("other/model.onnx"), ["onnxruntime"], "32-true")
    assert trials["torch"].passes
    assert trials["torch"].same == 1
    assert not trials["onnxruntime"].passes
    assert trials["onnxruntime"].same < 0.99


def test_a_second_run_exports_and_tries_nothing(monkeypatch):
    on_engine(denoiser(), "onnxruntime")
    for name in ("write_onnx", "try_engines"):
        monkeypatch.setattr(engines, name, lambda *_: pytest.fail("was in the cache"))
    assert isinstance(on_engine(denoiser(), "onnxruntime"), ExportedRestoration)


def test_the_cache_keeps_the_newest(monkeypatch):
    monkeypatch.setattr(engines, "KEPT", 2)
    folder = engines.engines_folder()
    for path in folder.glob("*"):
        path.unlink()
    folder.mkdir(parents=True, exist_ok=True)
    for age, name in enumerate(("new", "old", "older")):
        for suffix in (".onnx", "-1.json"):
            (folder / f"{name}{suffix}").write_text("{}")
            os.utime(folder / f"{name}{suffix}", (1e9 - age, 1e9 - age))
    on_engine(denoiser(), "onnxruntime")
    assert len(list(folder.glob("*.onnx"))) == 2
    assert (folder / "new.onnx").is_file()
    assert not list(folder.glob("old*"))


def test_tiles_are_cut_by_the_engines_own_memory():
    task = on_engine(denoiser(), "onnxruntime")
    assert task.bytes_per_pixel >= peak.LEAST
    assert task.bytes_per_pixel != denoiser().bytes_per_pixel


def test_mnn_reports_to_nobody_and_prints_nothing(model):
    """Its converter's front end, MNN.tools, installs a package and calls a server when it is imported."""
    main(["export", str(model), "model.onnx"])
    code = (
        "import sys; from pathlib import Path; from img2img.exporting.sessions import open_session; import numpy as np;"
        "run, _ = open_session(Path('model.onnx'), 1, 'mnn'); run(np.zeros((1, 3, 8, 8), np.float32));"
        "assert not [name for name in sys.modules if name.startswith('MNN.tools')]; print('done')"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "done\n"


def test_errors_are_one_line(photos, model, monkeypatch):
    main(["export", str(model), "model.onnx"])
    main(["export", str(model), "model.pt2"])
    with pytest.raises(UserError, match="onnxruntime runs on the CPU: leave out --accelerator gpu"):
        img2img.restore(photos, "out", "model.onnx", accelerator="gpu")
    with pytest.raises(UserError, match="leave out --precision bf16-mixed"):
        img2img.restore(photos, "out", "model.onnx", precision="bf16-mixed")
    with pytest.raises(UserError, match=r"--engine torch cannot run model\.onnx: it runs with onnxruntime, mnn"):
        img2img.restore(photos, "out", "model.onnx", engine="torch")
    with pytest.raises(UserError, match=r"model\.pt2: files of this kind are for torch; export the model as \.onnx"):
        img2img.restore(photos, "out", "model.pt2")
    Path("broken.onnx").write_bytes(Path("model.onnx").read_bytes()[:1000])
    with pytest.raises(UserError, match=r"broken\.onnx is not an ONNX file, or is damaged"):
        open_exported(Path("broken.onnx"))
    monkeypatch.setattr(engines, "missing", lambda engine: ["MNN"])
    with pytest.raises(UserError, match=r"--engine mnn needs MNN: pip install '\.\[mnn\]' in a clone"):
        img2img.restore(photos, "out", model, engine="mnn")
    assert not hasattr(on_engine(denoiser(), "auto"), "engine")
    assert not Path("out").exists()
