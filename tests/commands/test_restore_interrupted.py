"""Runs that are killed, interrupted or out of room."""

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

import img2img.imaging.writing
import img2img.inference.writer
from img2img.imaging.parts import find_leftovers
from img2img.inference import tiles
from img2img.inference.journal import Journal, Record
from tests.commands.models import save_model
from tests.commands.processes import flaws, outputs, start
from tests.commands.restoring import code_of, command

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

    def hang(*arguments, **how):
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

    def fill_up(part: Path, target: Path, **how: bool) -> int:
        nonlocal count
        count += 1
        if count > 3:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(target))
        return publish(part, target, **how)

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
