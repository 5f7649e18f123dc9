"""`img2img.restore` from Python: it returns its results, raises its errors, and prints nothing."""

from __future__ import annotations

import json
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import img2img
from img2img.errors import UserError
from img2img.inference.module import TileRestorer
from img2img.inference.run import RestoreInterrupted
from tests.commands.models import save_model

QUICK = {"accelerator": "cpu", "precision": "32-true"}


@pytest.fixture
def model(tmp_path) -> Path:
    return save_model(tmp_path / "model.ckpt", 0.02)


@pytest.fixture
def scans(photo) -> Path:
    folder = Path("in")
    (folder / "sub").mkdir(parents=True)
    Image.fromarray(photo[:40, :50]).save(folder / "a.png")
    Image.fromarray(photo[:30, :30]).save(folder / "sub" / "b.jpg")
    return folder


def test_the_result_names_a_bad_file_and_the_process_goes_on(model, scans, capsys):
    (scans / "bad.png").write_bytes(b"no image")
    result = img2img.restore(scans, "out", model=model, **QUICK)
    assert [record.name for record in result.restored] == ["a.png", "sub/b.jpg"]
    assert [record.name for record in result.failures] == ["bad.png"]
    assert "bad.png" in result.failures[0].reason
    assert result.report == Path("out/restore_report.json")
    assert result.report.is_file()
    assert result.megapixels > 0
    shown = capsys.readouterr()
    assert shown.out == shown.err == ""


def test_a_second_call_restores_nothing_again(model, scans):
    img2img.restore(scans, "out", model=model, **QUICK)
    times = {path: path.stat().st_mtime_ns for path in Path("out").rglob("*.[jp]*g")}
    result = img2img.restore(scans, "out", model=model, **QUICK)
    assert result.before == len(result.restored) == 2
    assert times == {path: path.stat().st_mtime_ns for path in times}


def test_files_that_are_not_images_are_counted(model, scans):
    for name in ("film.mp4", "sub/notes.txt", "sub/more.txt", "README", ".hidden"):
        (scans / name).write_text("")
    result = img2img.restore(scans, "out", model=model, **QUICK)
    assert result.others == {".mp4": 1, ".txt": 2, "without a suffix": 1}
    assert not result.failures


def test_one_image_has_no_report(model, scans):
    result = img2img.restore("in/a.png", "a.png", model=model, **QUICK)
    assert (result.report, result.page) == (None, None)
    assert len(result.restored) == 1


def test_scores_against_references(model, scans):
    result = img2img.restore(scans, "out", model=model, reference=scans, html=True, **QUICK)
    mean, count = result.scores["PSNR"]
    assert count == 2
    assert 20 < mean < 100
    assert result.page == Path("out/restore_report.html")


def test_ctrl_c_reports_what_was_done(model, scans, monkeypatch):
    steps, step = [], TileRestorer.predict_step

    def press_after_the_first_file(self, batch, batch_idx):
        steps.append(batch_idx)
        if len(steps) > 4:
            while not list(Path("out").glob("*.png")):
                time.sleep(0.01)
            raise KeyboardInterrupt
        return step(self, batch, batch_idx)

    for number in range(30):
        Image.fromarray(np.full((20 + number, 20, 3), 99, np.uint8)).save(scans / f"{number}.png")
    with monkeypatch.context() as patch:
        patch.setattr(TileRestorer, "predict_step", press_after_the_first_file)
        with pytest.raises(RestoreInterrupted, match="run the same command again") as stopped:
            img2img.restore(scans, "out", model=model, **QUICK)
    done = stopped.value.result
    assert 0 < len(done.restored) < 32
    assert done.report is not None
    assert len(img2img.restore(scans, "out", model=model, **QUICK).restored) == 32


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"quality": 0}, "--quality 0 must be 1 to 100"),
        ({"memory": "much"}, "--memory much is not a size"),
        ({"format": "jpg"}, "did you mean jpeg"),
        ({"mask": "alpha"}, "takes no mask"),
        ({"uncertainty": "maps"}, "does not say how sure it is"),
        ({"overwrite": True, "skip_existing": True}, "contradict each other"),
    ],
)
def test_wrong_options_are_errors(model, scans, options, said):
    with pytest.raises(UserError, match=said):
        img2img.restore(scans, "out", model=model, **QUICK, **options)
    assert not Path("out").exists()


def test_a_page_needs_a_folder(model, scans):
    with pytest.raises(UserError, match="--html needs an output folder"):
        img2img.restore("in/a.png", "b.png", model=model, html=True, **QUICK)


def test_the_report_holds_no_absolute_path(model, scans):
    (scans / "bad.png").write_bytes(b"no image")
    result = img2img.restore(scans.absolute(), Path("out").absolute(), model, html=True, accelerator="cpu")
    for file in (result.report, result.page):
        assert str(Path.cwd()) not in file.read_text(encoding="utf-8")
    report = json.loads(result.report.read_text())
    assert (result.report.parent / report["input"]).samefile(scans)
    assert all((result.report.parent / record["source"]).is_file() for record in report["files"])
    assert any("../in/bad.png" in record["reason"] for record in report["files"] if record["status"] == "failed")
