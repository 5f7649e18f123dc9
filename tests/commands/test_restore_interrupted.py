"""Runs that are killed, interrupted, out of room or in each other's way."""

from __future__ import annotations

import errno
import json
import os
import random
import signal
import subprocess
import threading
import time
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

import img2img
import img2img.imaging.writing
import img2img.inference.output_file
import img2img.inference.writer
from img2img.cli import main
from img2img.imaging.parts import find_leftovers
from img2img.inference import tiles
from img2img.inference.journal import Journal, Record
from tests.commands.models import save_model
from tests.commands.processes import flaws, outputs, start

LONGEST = 30  # seconds: never waited for, but by a run that hangs


@pytest.fixture
def argv(tmp_path, photo) -> list[str]:
    """A run over 11 images: alike ones that share batches, gray, of 16 bits, in folders, in tiles."""
    folder = tmp_path / "in"
    (folder / "sub").mkdir(parents=True)
    for number in range(6):
        Image.fromarray(photo[number : number + 96, :120]).save(folder / "sub" / f"{number}.png")
    Image.fromarray(photo).save(folder / "large.jpg")
    Image.fromarray(photo[:200]).save(folder / "large.webp")
    Image.fromarray(photo[..., 0]).save(folder / "gray.png")
    cv2.imwrite(str(folder / "deep.tif"), photo[:150].astype(np.uint16) * 257)
    Image.fromarray(photo[:9, :9]).save(folder / "tiny.bmp")
    model = save_model(tmp_path / "model.ckpt", 0.02)
    return command(folder, tmp_path / "out", model)


def command(source: Path, output: Path, model: Path, *more: str) -> list[str]:
    quiet = ["--accelerator=cpu", "--precision=32-true", "--tile=100", "--memory=2GB"]
    return ["restore", str(source), str(output), f"--model={model}", *quiet, *more]


def code_of(arguments: list[str]) -> int:
    """Runs the command in this process."""
    try:
        main(arguments)
    except SystemExit as stop:
        return int(stop.code or 0)
    return 0


def into(arguments: list[str], output: Path) -> list[str]:
    return [arguments[0], arguments[1], str(output), *arguments[3:]]


@pytest.fixture
def undisturbed(argv, tmp_path) -> dict[str, bytes]:
    log = tmp_path / "undisturbed.log"
    process = start(into(argv, tmp_path / "undisturbed"), log)
    process.join(LONGEST)
    assert process.exitcode == 0, log.read_text()
    made = outputs(tmp_path / "undisturbed")
    assert len(made) == 11
    return made


def wait_for_outputs(folder: Path, count: int, process) -> None:
    end = time.monotonic() + LONGEST
    while len(outputs(folder)) < count and process.is_alive() and time.monotonic() < end:
        time.sleep(0.005)


def test_killed_twice_and_started_again_it_ends_as_if_undisturbed(argv, tmp_path, undisturbed):
    out, log = tmp_path / "out", tmp_path / "log"
    for count in sorted(random.Random(time.time_ns()).sample(range(1, 6), 2)):
        process = start(argv, log)
        wait_for_outputs(out, count, process)
        process.kill()
        process.join()
        assert process.exitcode == -signal.SIGKILL, log.read_text()
        assert flaws(out, undisturbed) == []
    before = {name: (out / name).stat().st_mtime_ns for name in outputs(out)}
    process = start(argv, log)
    process.join(LONGEST)
    assert process.exitcode == 0, log.read_text()
    assert outputs(out) == undisturbed
    assert find_leftovers(out) == []
    redone = [name for name, moment in before.items() if (out / name).stat().st_mtime_ns != moment]
    assert len(redone) <= 1  # the one that had its name but was not noted yet
    assert json.loads((out / "restore_report.json").read_text())["restored"] == 11


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_the_run_with_what_is_done_intact(argv, tmp_path, undisturbed, number):
    out, log = tmp_path / "out", tmp_path / "log"
    process = start(argv, log)
    wait_for_outputs(out, 2, process)
    os.kill(process.pid, number)
    process.join(LONGEST)
    assert process.exitcode == 130, log.read_text()
    assert "run the same command again to go on" in log.read_text()
    assert "Traceback" not in log.read_text()
    assert 2 <= len(outputs(out)) < 11
    assert flaws(out, undisturbed) == []
    assert find_leftovers(out) == []
    assert code_of(argv) == 0
    assert set(outputs(out)) == set(undisturbed)


@pytest.mark.parametrize("blocked", ["writer", "reader"])
def test_ctrl_c_ends_a_run_whose_disk_hangs(argv, tmp_path, monkeypatch, capsys, blocked):
    hanging, released = threading.Event(), threading.Event()

    def hang(*arguments):
        hanging.set()
        released.wait(LONGEST)
        raise OSError(errno.EIO, "hung")

    if blocked == "writer":
        monkeypatch.setattr(img2img.imaging.writing, "publish", hang)
    else:
        monkeypatch.setattr(tiles.Window, "move", hang)
    monkeypatch.setattr(img2img.inference.writer, "PATIENCE", 0.2)
    monkeypatch.setattr(tiles, "PATIENCE", 0.2)

    def press() -> None:
        hanging.wait(LONGEST)
        time.sleep(0.2)
        os.kill(os.getpid(), signal.SIGINT)

    threading.Thread(target=press).start()
    try:
        assert code_of(argv) == 130
        assert not released.is_set()
        assert "interrupted" in capsys.readouterr().err
        assert outputs(tmp_path / "out") == {}
    finally:
        released.set()
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler  # whoever calls from Python keeps Ctrl-C
    for thread in threading.enumerate():
        if thread.name in ("write", "read-ahead"):
            thread.join(LONGEST)
    monkeypatch.undo()


def test_a_journal_that_cannot_be_written_ends_the_run_in_a_line(argv, tmp_path, monkeypatch, capsys):
    def refuse(*arguments):
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr(Journal, "note", refuse)
    assert code_of(argv) == 1
    said = capsys.readouterr().err
    assert "stopped: " in said
    assert "Read-only file system" in said
    assert "Traceback" not in said
    monkeypatch.undo()
    assert code_of(argv) == 0
    assert len(outputs(tmp_path / "out")) == 11


def test_a_full_disk_ends_the_run_and_with_room_it_goes_on(argv, tmp_path, monkeypatch, capsys):
    publish, count = img2img.imaging.writing.publish, 0

    def fill_up(part: Path, target: Path) -> int:
        nonlocal count
        count += 1
        if count > 3:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(target))
        return publish(part, target)

    monkeypatch.setattr(img2img.imaging.writing, "publish", fill_up)
    assert code_of(argv) == 1
    said = capsys.readouterr()
    assert f"stopped: the disk of {tmp_path / 'out'}" in said.err
    assert "is full" in said.err
    assert "Restored 3 image(s)" in said.out
    assert len(outputs(tmp_path / "out")) == 3
    assert find_leftovers(tmp_path / "out") == []
    monkeypatch.undo()
    assert code_of(argv) == 0
    assert len(outputs(tmp_path / "out")) == 11


@pytest.mark.parametrize("kilobytes", [48, 120, 300])
def test_a_really_full_disk(argv, tmp_path, capsys, kilobytes):
    disk = tmp_path / "disk"
    disk.mkdir()
    size = ["mount", "-t", "tmpfs", "-o", f"size={kilobytes}k", "tmpfs", str(disk)]
    if os.geteuid() or subprocess.run(size, capture_output=True).returncode:
        pytest.skip("only root may mount a small disk")
    try:
        assert code_of(into(argv, disk / "out")) == 1
        assert "is full" in capsys.readouterr().err
        for name in outputs(disk / "out"):
            assert cv2.imread(str(disk / "out" / name)) is not None, name
        assert find_leftovers(disk) == []
        subprocess.run(["mount", "-o", "remount,size=9m", str(disk)], check=True)
        assert code_of(into(argv, disk / "out")) == 0
        assert len(outputs(disk / "out")) == 11
    finally:
        subprocess.run(["umount", str(disk)], check=True)


def test_no_room_even_to_begin_is_said_in_a_line(argv, tmp_path, monkeypatch, capsys):
    def refuse(*arguments, **options):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(Path, "mkdir", refuse)
    assert code_of(argv) == 2
    assert "No space left on device" in capsys.readouterr().err.strip().splitlines()[-1]


def small(tmp_path: Path, photo: np.ndarray, count: int = 2) -> Path:
    folder = tmp_path / "few"
    folder.mkdir()
    for number in range(count):
        Image.fromarray(photo[number : number + 9, :9]).save(folder / f"{number}.png")
    return folder


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


@pytest.mark.parametrize("cut", range(1, 60, 7))
def test_a_journal_cut_anywhere_loses_its_last_line_at_most(tmp_path, cut):
    journal = Journal(tmp_path, {})
    journal.begin(0, fresh=True)
    for name in ("a.png", "b\u2028\udce4.png"):
        journal.note(Record(name, f"in/{name}", "restored"), 0)
    file = tmp_path / ".img2img/journal-0.jsonl"
    file.write_bytes(file.read_bytes()[:-cut])
    journal.note(Record("c.png", "in/c.png", "failed", "broken"), 0)
    records, begun = journal.records()
    assert set(records) - {"b\u2028\udce4.png"} == {"a.png", "c.png"}
    assert (records["a.png"].status, records["c.png"].reason) == ("restored", "broken")
    assert not begun
    journal.note_begun("d.png", 0)
    assert journal.records()[1] == {"d.png"}
    journal.release()


def test_places_that_cannot_be_written_to_are_named(tmp_path, photo, capsys):
    few = small(tmp_path, photo)
    model = save_model(tmp_path / "model.ckpt")
    (tmp_path / "file").write_text("no folder")
    for output, reason in {
        tmp_path / "file": "is a file; give a folder",
        tmp_path / "file/deeper": "Not a directory",
        Path("/proc/out"): "nothing can be written into",
        few / ".." / few.name: "lies in the input",
        few / "no" / ".." / "where": "lies in the input",
    }.items():
        assert code_of(command(few, output, model)) == 2
        said = capsys.readouterr().err.strip().splitlines()[-1]
        assert said.startswith("img2img restore: error: ")
        assert reason in said, said
    assert code_of(command(few, tmp_path / "out", model, f"--reference={tmp_path}")) == 2
    assert "lies in --reference" in capsys.readouterr().err
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
            assert "lies in the input" in capsys.readouterr().err
        assert len(list(few.iterdir())) == 2
    finally:
        subprocess.run(["umount", str(twin)], check=True)
