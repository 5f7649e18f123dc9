"""Runs that find something where they write: outputs of an earlier run, of somebody else, another run, the sources."""

from __future__ import annotations

import errno
import os
import subprocess
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import img2img
from img2img.inference.journal import Journal, Record
from tests.commands.models import save_model
from tests.commands.processes import outputs
from tests.commands.restoring import code_of, command, small


def test_outputs_from_elsewhere_are_kept_left_or_replaced_as_one_says(tmp_path, photo, capsys):
    few, out = small(tmp_path, photo), tmp_path / "out"
    argv = command(few, out, save_model(tmp_path / "model.ckpt"))
    out.mkdir()
    (out / "0.png").write_bytes(b"somebody's")
    assert code_of(argv) == 2
    assert "--skip_existing to keep what is there, --overwrite to replace it" in capsys.readouterr().err
    assert outputs(out) == {"0.png": b"somebody's"}
    assert code_of([*argv, "--skip-existing"]) == 0
    assert outputs(out)["0.png"] == b"somebody's"
    assert len(outputs(out)) == 2
    assert code_of([*argv, "--overwrite"]) == 0
    np.testing.assert_array_equal(np.array(Image.open(out / "0.png")), photo[:9, :9])
    assert code_of([*argv, "--overwrite", "--skip-existing"]) == 2


def test_only_what_has_changed_is_done_again(tmp_path, photo, capsys):
    few, out = small(tmp_path, photo, 3), tmp_path / "out"
    argv = command(few, out, save_model(tmp_path / "model.ckpt"))
    assert code_of(argv) == 0
    times = {name: (out / name).stat().st_mtime_ns for name in outputs(out)}
    Image.fromarray(photo[50:70, :9]).save(few / "1.png")
    (out / "2.png").unlink()
    (few / "3.png").write_bytes((few / "0.png").read_bytes())
    assert code_of(argv) == 0
    np.testing.assert_array_equal(np.array(Image.open(out / "1.png")), photo[50:70, :9])
    assert set(outputs(out)) == {"0.png", "1.png", "2.png", "3.png"}
    assert (out / "0.png").stat().st_mtime_ns == times["0.png"]


def test_another_model_is_another_run_and_the_same_by_another_name_is_not(tmp_path, photo, monkeypatch, capsys):
    few, out = small(tmp_path, photo), tmp_path / "out"
    save_model(tmp_path / "a.ckpt")
    save_model(tmp_path / "b.ckpt", 0.1)
    assert code_of(command(few, out, tmp_path / "a.ckpt")) == 0
    before = outputs(out)
    assert code_of(command(few, out, tmp_path / "b.ckpt")) == 2
    assert outputs(out) == before
    monkeypatch.chdir(tmp_path)
    assert code_of(command(few, out, Path("a.ckpt"))) == 0
    capsys.readouterr()
    with pytest.raises(ValueError, match="--overwrite"):  # a task in memory has no file that would tell
        img2img.restore(few, out, model=img2img.load("b.ckpt"), accelerator="cpu", tile=100, precision="32-true")
    img2img.restore(few, out, model=img2img.load("b.ckpt"), accelerator="cpu", overwrite=True)
    assert outputs(out) != before
    with pytest.raises(ValueError, match="--overwrite"):
        img2img.restore(few, out, model=img2img.load("a.ckpt"), accelerator="cpu")


def test_overwriting_that_was_interrupted_goes_on_too(tmp_path, photo, monkeypatch):
    few, out = small(tmp_path, photo, 3), tmp_path / "out"
    argv = [*command(few, out, save_model(tmp_path / "model.ckpt")), "--overwrite"]
    out.mkdir()
    for number in range(3):
        (out / f"{number}.png").write_bytes(b"somebody's")
    note, noted = Journal.note, []

    def stop_after_one(journal: Journal, record: Record, rank: int) -> None:
        if noted:
            raise OSError(errno.EIO, "the drive is gone")
        note(journal, record, rank)
        noted.append(record.name)

    monkeypatch.setattr(Journal, "note", stop_after_one)
    assert code_of(argv) == 1
    monkeypatch.undo()
    done = (out / noted[0]).stat().st_mtime_ns
    assert code_of(argv) == 0
    assert (out / noted[0]).stat().st_mtime_ns == done
    assert b"somebody's" not in outputs(out).values()
    assert code_of(argv) == 0  # it had ended: now it is begun anew
    assert (out / noted[0]).stat().st_mtime_ns != done


def test_of_two_at_once_the_second_is_refused(tmp_path, photo, capsys, monkeypatch):
    few, out = small(tmp_path, photo), tmp_path / "out"
    argv = command(few, out, save_model(tmp_path / "model.ckpt"))
    first = Journal(out, {})
    first.begin(0, fresh=True)
    assert code_of(argv) == 2
    assert "another img2img is writing into" in capsys.readouterr().err
    first.release()
    begin = Journal.begin

    def begin_late(journal: Journal, memory: int, fresh: bool) -> None:
        monkeypatch.undo()
        assert code_of(argv) == 0
        begin(journal, memory, fresh)

    monkeypatch.setattr(Journal, "begin", begin_late)  # the other came and went after this one had decided what to do
    assert code_of(argv) == 2
    assert "another img2img has just written into" in capsys.readouterr().err
    assert code_of(argv) == 0


def test_places_that_cannot_be_written_to_are_named(tmp_path, photo, capsys):
    few = small(tmp_path, photo)
    model = save_model(tmp_path / "model.ckpt")
    (tmp_path / "file").write_text("no folder")
    for output, reason in {
        tmp_path / "file": "is a file; give a folder",
        tmp_path / "file/deeper": "Not a directory",
        Path("/proc/out"): "nothing can be written into",
        few / ".." / few.name: "is inside the input",
        few / "no" / ".." / "where": "is inside the input",
    }.items():
        assert code_of(command(few, output, model)) == 2
        said = capsys.readouterr().err.strip().splitlines()[-1]
        assert said.startswith("img2img restore: error: ")
        assert reason in said, said
    assert code_of(command(few, tmp_path / "out", model, f"--reference={tmp_path}")) == 2
    assert "is inside --reference" in capsys.readouterr().err
    assert sorted(path.name for path in few.iterdir()) == ["0.png", "1.png"]
    assert (tmp_path / "file").read_text() == "no folder"


def test_a_source_within_the_output_is_never_written_into(tmp_path, photo, capsys):
    source = tmp_path / "all" / "raw"
    (source / "raw").mkdir(parents=True)
    Image.fromarray(photo[:9, :9]).save(source / "a.png")
    Image.fromarray(photo[:9, :9]).save(source / "raw" / "b.jpg")
    before = outputs(source)
    model = save_model(tmp_path / "model.ckpt")
    assert code_of(command(source, tmp_path / "all", model, "--format=png")) == 1
    assert "would be written among the sources" in capsys.readouterr().err
    assert outputs(source) == before
    assert (tmp_path / "all" / "a.png").exists()


def test_the_input_under_a_second_name_is_known(tmp_path, photo, capsys):
    few, twin = small(tmp_path, photo), tmp_path / "Few"
    twin.mkdir()
    if os.geteuid() or subprocess.run(["mount", "--bind", str(few), str(twin)], capture_output=True).returncode:
        pytest.skip("only root may mount a folder under a second name")
    try:
        for output in (twin, twin / "new"):
            code = code_of(command(few, output, save_model(tmp_path / "model.ckpt"), "--format=webp"))
            assert code == 2
            assert "is inside the input" in capsys.readouterr().err
        assert len(list(few.iterdir())) == 2
    finally:
        subprocess.run(["umount", str(twin)], check=True)
