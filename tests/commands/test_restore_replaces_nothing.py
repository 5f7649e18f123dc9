"""Without --overwrite, nothing that the run did not make is replaced, whenever it appeared."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest
from PIL import Image

from img2img.imaging.parts import appearing
from img2img.inference.output_file import OutputFile
from tests.commands.models import save_model
from tests.commands.processes import outputs
from tests.commands.restoring import code_of, command, small


@pytest.fixture
def out(tmp_path) -> Path:
    return tmp_path / "out"


@pytest.fixture
def argv(tmp_path, photo, out) -> list[str]:
    return command(small(tmp_path, photo), out, save_model(tmp_path / "model.ckpt"))


@pytest.mark.parametrize("overwrite", [False, True])
@pytest.mark.parametrize("kind", ["file", "dangling link"])
@pytest.mark.parametrize("links", [True, False])
def test_what_appears_during_the_run(argv, out, tmp_path, monkeypatch, capsys, overwrite, kind, links):
    finish = OutputFile.finish

    def disturbed(file: OutputFile):
        if file.job.name == "0.png" and kind == "file":
            (out / "0.png").write_bytes(b"somebody's")
        elif file.job.name == "0.png":
            (out / "0.png").symlink_to(tmp_path / "nowhere")
        return finish(file)

    def no_links(*_):
        raise OSError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(OutputFile, "finish", disturbed)
    if not links:
        monkeypatch.setattr(os, "link", no_links)
    assert code_of([*argv, *(["--overwrite"] if overwrite else [])]) == (0 if overwrite else 1)
    assert set(outputs(out)) == ({"0.png", "1.png"} if overwrite or kind == "file" else {"1.png"})
    assert not list(out.glob(".*.part"))
    if overwrite:
        assert Image.open(out / "0.png").size == (9, 9)
        assert not (out / "0.png").is_symlink()
        return
    assert "0.png appeared during the run and is kept; give --overwrite to replace it" in capsys.readouterr().err
    if kind == "file":
        assert (out / "0.png").read_bytes() == b"somebody's"
    else:
        assert os.readlink(out / "0.png") == str(tmp_path / "nowhere")


def test_a_dangling_link_in_place_of_an_output(argv, out, tmp_path, capsys):
    out.mkdir()
    (out / "1.png").symlink_to(tmp_path / "nowhere.png")
    assert code_of(argv) == 2
    assert f"{out / '1.png'} exists" in capsys.readouterr().err
    assert os.readlink(out / "1.png") == str(tmp_path / "nowhere.png")
    assert not (tmp_path / "nowhere.png").exists()


@pytest.mark.parametrize("name", ["restore_report.json", "restore_report.html"])
@pytest.mark.parametrize("content", ["my notes", "[]", '{"files": 1}'])
def test_reports_of_somebody_else(argv, out, capsys, name, content):
    out.mkdir()
    (out / name).write_text(content)
    assert code_of([*argv, "--html"]) == 2
    assert f"{name} exists and is not a report of img2img" in capsys.readouterr().err
    assert code_of([*argv, "--html", "--skip_existing"]) == 0
    assert f"the report was not written: {out / name} is somebody else's" in capsys.readouterr().err
    assert (out / name).read_text() == content
    assert code_of([*argv, "--html", "--overwrite"]) == 0
    assert (out / name).read_text() != content
    Image.new("RGB", (9, 9)).save(Path(argv[1]) / "2.png")
    assert code_of([*argv, "--html"]) == 0  # its own reports it replaces


def test_a_file_that_appears_may_be_kept(tmp_path):
    (tmp_path / "a").write_text("old")
    with pytest.raises(FileExistsError), appearing(tmp_path / "a", replace=False) as part:
        part.write_text("new")
    assert [path.name for path in tmp_path.iterdir()] == ["a"]
    assert (tmp_path / "a").read_text() == "old"
    with appearing(tmp_path / "b", replace=False) as part:
        part.write_text("new")
    assert (tmp_path / "b").read_text() == "new"
