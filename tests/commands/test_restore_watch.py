"""`restore --watch`: restores what arrives, each file once, until it is ended."""

from __future__ import annotations

import json
import os
import shutil
import signal
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from img2img.errors import UserError
from img2img.imaging.parts import find_leftovers
from img2img.inference import watching
from img2img.inference.jobs import list_jobs, with_maps
from img2img.inference.watching import Arrivals
from tests.commands.models import save_model
from tests.commands.processes import flaws, outputs, start
from tests.commands.restoring import code_of, command

LONGEST = 60  # seconds: never waited for, but by a run that hangs


@pytest.fixture
def argv(tmp_path) -> list[str]:
    (tmp_path / "in").mkdir()
    model = save_model(tmp_path / "model.ckpt", 0.02)
    return command(tmp_path / "in", tmp_path / "out", model, "--watch")


def wait_for(condition: Callable[[], bool], process, log: Path) -> None:
    end = time.monotonic() + LONGEST
    while not condition():
        assert process.is_alive(), log.read_text()
        assert time.monotonic() < end, log.read_text()
        time.sleep(0.02)


def times_restored(folder: Path) -> Counter[str]:
    """How often each file was restored, as the journal tells."""
    lines = [json.loads(line) for path in (folder / ".img2img").glob("journal-*.jsonl")
             for line in path.read_bytes().splitlines() if line]  # fmt: skip
    return Counter(line["name"] for line in lines if line.get("status") == "restored")


def end(process, log: Path) -> None:
    """Ends a run as people do; it must say that it ended well."""
    os.kill(process.pid, signal.SIGINT)
    process.join(LONGEST)
    assert process.exitcode == 0, log.read_text()
    assert "Traceback" not in log.read_text()


@pytest.mark.slow
def test_two_hundred_files_that_arrive_are_restored_once_each_also_if_the_run_is_killed(argv, tmp_path, photo):
    """Files come all the time, written slowly, copied, or moved in; the run is killed in the middle and goes on."""
    source, out, log = tmp_path / "in", tmp_path / "out", tmp_path / "log"
    (tmp_path / "made").mkdir()
    made = [tmp_path / "made" / f"{number}.png" for number in range(200)]
    for number, path in enumerate(made):
        Image.fromarray(photo[number : number + 16, : 16 + number % 3]).save(path)
    for path in made[:20]:
        shutil.copy(path, source)
    process = start(argv, log)
    for number, path in enumerate(made[20:]):
        (source / "sub").mkdir(exist_ok=True)
        if number % 3:
            shutil.copy(path, source / "sub")
        else:
            data = path.read_bytes()
            with open(source / "sub" / path.name, "wb") as file:
                file.write(data[: len(data) // 2])
                file.flush()
                time.sleep(0.02)
                file.write(data[len(data) // 2 :])
        if number == 90:
            wait_for(lambda: len(outputs(out)) > 30, process, log)
            process.kill()
            process.join()
            process = start(argv, log)
    wait_for(lambda: len(outputs(out)) == 200, process, log)
    time.sleep(2)  # a round ends a moment after its last file, and only between rounds does Ctrl-C end with 0
    end(process, log)

    assert set(outputs(out)) == {path.name for path in made[:20]} | {f"sub/{path.name}" for path in made[20:]}
    twice = [name for name, count in times_restored(out).items() if count > 1]
    assert twice == []
    assert len(times_restored(out)) >= 199  # one may have got its name just before the kill
    assert find_leftovers(out) == []
    report = json.loads((out / "restore_report.json").read_text())
    assert (report["restored"], report["failed"]) == (200, 0)
    once = code_of([*argv[:2], str(tmp_path / "once"), *argv[3:-1]])
    assert once == 0
    assert flaws(out, outputs(tmp_path / "once")) == [], "they are what a run that finds all at once makes"


def test_a_file_that_comes_again_is_restored_again_and_a_foreign_output_is_kept(argv, tmp_path, photo):
    source, out, log = tmp_path / "in", tmp_path / "out", tmp_path / "log"
    out.mkdir()
    (out / "theirs.png").write_bytes(b"precious")
    process = start(argv, log)
    for name in ("a.png", "theirs.png"):
        Image.fromarray(photo[:20, :20]).save(source / name)
    wait_for((out / "a.png").exists, process, log)
    first = (out / "a.png").read_bytes()
    Image.fromarray(photo[40:60, :20]).save(source / "a.png")
    wait_for(lambda: (out / "a.png").read_bytes() != first, process, log)
    (source / "broken.png").write_bytes(photo.tobytes())
    wait_for(lambda: "broken.png" in (out / ".img2img" / "journal-0.jsonl").read_text(), process, log)
    (source / "a.png").unlink()  # people empty such folders
    os.kill(process.pid, signal.SIGTERM)
    process.join(LONGEST)
    assert process.exitcode == 1
    assert (out / "theirs.png").read_bytes() == b"precious"
    assert "theirs.png exists: give --skip_existing to keep what is there" in log.read_text()
    report = json.loads((out / "restore_report.json").read_text())
    status = {record["name"]: record["status"] for record in report["files"]}
    assert status == {"a.png": "restored", "broken.png": "failed", "theirs.png": "failed"}


def test_only_files_that_have_settled_are_given_and_each_state_once(tmp_path, photo):
    look, file = Arrivals([tmp_path]), tmp_path / "a.png"
    assert look() == []
    file.write_bytes(b"one")
    assert look() == [], "it may still grow"
    file.write_bytes(b"one two")
    assert look() == [], "it grew"
    assert look() == [file]
    assert look() == []
    os.utime(file, ns=(1, 1))
    assert look() == []
    assert look() == [file], "another version"
    (tmp_path / "notes.txt").write_text("no image")
    assert look() == []
    assert look.others == {".txt": 1}


def test_names_do_not_depend_on_what_arrives_later(tmp_path, photo):
    """Otherwise `a.jpg` would become `a.png`, until another `a.png` came and took its place."""
    for name in ("a.jpg", "b.png"):
        Image.fromarray(photo[:9, :9]).save(tmp_path / name)
    (first,) = list_jobs([tmp_path], tmp_path.parent / "out", "png", only={tmp_path / "a.jpg"})
    Image.fromarray(photo[:9, :9]).save(tmp_path / "a.png")
    (second,) = list_jobs([tmp_path], tmp_path.parent / "out", "png", only={tmp_path / "a.png"})
    assert (first.name, second.name) == ("a.jpg.png", "a.png")
    maps = [with_maps([job], tmp_path.parent / "maps", [tmp_path], lasting=True)[0].map for job in (first, second)]
    assert [path.name for path in maps] == ["a.jpg.png", "a.png"]
    Image.fromarray(photo[:9, :9]).save(tmp_path / "a.jpg.png")
    with pytest.raises(UserError, match=r"two images would both be named a\.jpg\.png in the output; rename one"):
        list_jobs([tmp_path], tmp_path.parent / "out", "png", only=())


def test_a_drive_that_is_away_comes_back(tmp_path):
    folder = tmp_path / "drive"
    folder.mkdir()
    look = Arrivals([folder])
    (folder / "a.png").write_bytes(b"one")
    look()
    folder.rename(tmp_path / "away")
    with pytest.warns(UserWarning, match="no such folder.*; waiting for it"):
        assert look() == []
    assert look() == [], "said once"
    (tmp_path / "away").rename(folder)
    assert look() == [folder / "a.png"]


def test_nothing_arrives_and_what_cannot_be_watched(argv, tmp_path, monkeypatch, capsys, photo):
    def press(seconds):
        raise KeyboardInterrupt

    monkeypatch.setattr(watching.time, "sleep", press)
    assert code_of(argv) == 0
    assert "Restored 0 image(s)" in capsys.readouterr().out
    Image.fromarray(photo[:9, :9]).save(tmp_path / "in" / "new.png")
    assert code_of(argv) == 0
    assert "1 had not settled and wait for the next start" in capsys.readouterr().out
    assert not (tmp_path / "out").exists()
    Image.fromarray(photo[:9, :9]).save(tmp_path / "a.png")
    assert code_of([argv[0], str(tmp_path / "a.png"), *argv[2:]]) == 2
    assert f"--watch waits for files in folders, but {tmp_path / 'a.png'} is a file" in capsys.readouterr().err
    assert code_of([*argv, "--devices", "2"]) == 2
    assert "--watch works on one device" in capsys.readouterr().err


def test_ctrl_c_in_the_middle_of_files_says_that_they_wait(argv, tmp_path, monkeypatch, capsys, photo):
    for number in range(3):
        Image.fromarray(np.roll(photo, number, axis=0)).save(tmp_path / "in" / f"{number}.png")
    step = watching.execute

    def press_while_it_works(plan, trainer):
        done = step(plan, trainer)
        done.interrupted = True  # as the writer notes after Ctrl-C
        return done

    monkeypatch.setattr(watching, "POLL", 0.01)
    monkeypatch.setattr(watching, "execute", press_while_it_works)
    assert code_of(argv) == 130
    said = capsys.readouterr()
    assert "run the same command again to go on" in said.err
    assert json.loads((tmp_path / "out" / "restore_report.json").read_text())["restored"] == 3
