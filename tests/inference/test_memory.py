"""`--memory`: decoders and encoders of whole images count, in the plan, in the run, and in the dry run."""

from __future__ import annotations

import threading
from pathlib import Path

import numpy as np
import pytest
import pyvips
from PIL import Image

import img2img
from img2img.imaging.formats import Header
from img2img.imaging.held import held_by_encoder
from img2img.imaging.reading import read_header
from img2img.inference.groups import HUNGRY, in_groups
from img2img.inference.jobs import Job
from img2img.inference.room import Room
from img2img.tiling.planner import Planner
from tests.commands.models import RECIPE, save_model
from tests.commands.restoring import code_of
from tests.imaging.samples import noise, rle_bmp

SIDE = 200
WHOLE = "because their format, or that of their mask or reference, is decoded or encoded whole"


def save(path: Path, **options) -> Path:
    """Writes SIDE × SIDE pixels, by libvips."""
    name, _, kind = path.stem.partition("_")
    image = pyvips.Image.new_from_array(noise(SIDE, SIDE, 3))
    if "deep" in kind:
        image = (image.cast("ushort") * 257).cast("ushort").copy(interpretation="rgb16")
    if path.suffix in (".jpg", ".png"):
        options["interlace"] = name == "whole"
    image.write_to_file(str(path), **options)
    return path


@pytest.mark.parametrize(
    ("name", "held"),
    [
        ("streamed.jpg", 0),
        ("streamed.png", 0),
        ("whole.jpg", 208 * 208 * 2 * 1.5),  # one coefficient of 2 bytes a sample, with half the chroma each way
        ("whole.png", SIDE * SIDE * 3),
        ("whole_deep.png", SIDE * SIDE * 6),
        ("streamed.tif", 0),
        ("whole.webp", SIDE * SIDE * 3 * 2.7),
        ("whole.avif", SIDE * SIDE * 3 * 6.2),
    ],
)
def test_a_header_says_what_the_decoder_holds(tmp_path, name, held):
    assert read_header(save(tmp_path / name)).held == pytest.approx(held, rel=0.01)


def test_a_bmp_is_held_only_if_it_is_compressed(tmp_path, photo):
    Image.fromarray(photo).save(tmp_path / "plain.bmp")
    (tmp_path / "rle.bmp").write_bytes(rle_bmp(600))
    assert read_header(tmp_path / "plain.bmp").held == 0
    assert read_header(tmp_path / "rle.bmp").held == 3 * 600 * 600


@pytest.mark.parametrize(("suffix", "sample"), [(".png", 0), (".jpg", 0), (".bmp", 0), (".webp", 11.2), (".avif", 15)])
def test_what_encoders_hold(suffix, sample):
    header = Header(100, 200, 3, False, np.dtype(np.uint8), 1, "png", {})
    assert held_by_encoder(header, suffix) == pytest.approx(sample * 100 * 200 * 3)


def test_a_bomb_is_refused_with_what_would_be_enough_and_the_others_are_restored(tmp_path, photo, capsys):
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "bomb.bmp").write_bytes(rle_bmp(20_000))
    Image.fromarray(photo[:20, :20]).save(tmp_path / "in" / "a.png")
    assert (tmp_path / "in" / "bomb.bmp").stat().st_size < 2000
    model = save_model(tmp_path / "model.ckpt")
    argv = ["restore", str(tmp_path / "in"), str(tmp_path / "out"), f"--model={model}", "--accelerator=cpu"]
    said = f"20000×20000 pixels need 2.5 GB of memory, {WHOLE}, but only 1.5 "
    for more in ([], ["--tile=64"]):
        assert code_of([*argv, "--memory=1500MB", "--dry_run", *more]) == 0
        shown = capsys.readouterr().out
        assert said in shown
        assert "GB may be used; give --memory 2.5GB" in shown or "give --memory 2.6GB" in shown
        assert "1 of 2 image(s)" in shown
        assert "at most about 1.3 GB" in shown
    assert code_of([*argv, "--memory=1500MB"]) == 1
    assert said in capsys.readouterr().err
    assert sorted(path.name for path in (tmp_path / "out").glob("[!.]*")) == ["a.png", "restore_report.json"]
    assert code_of([*argv, "--memory=3GB", "--dry_run"]) == 0
    shown = capsys.readouterr().out
    assert "bomb.bmp" in shown
    assert said not in shown
    assert "at most about 3.0 GB" in shown or "at most about 2." in shown


def planner(memory: float) -> Planner:
    return Planner(img2img.build(RECIPE), memory=int(memory), limit=int(memory))


def job(name: str, held: int, side: int = 1000) -> Job:
    header = Header(side, side, 3, False, np.dtype(np.uint8), 1, "png", {}, held)
    return Job(Path("in", name), Path("out", name), name, header)


def test_tiles_leave_room_for_what_is_held():
    small = planner(1.7e9).of_header(job("a.png", 300_000_000, 4000).header)
    large = planner(1.7e9).of_header(job("a.png", 0, 4000).header)
    assert small.height * small.width < large.height * large.width
    for held in (0, 300_000_000):
        assert planner(1.7e9).bytes_of(job("a.png", held, 4000).header) <= 1.7e9


def test_without_a_limit_half_of_what_is_free_may_be_held(monkeypatch):
    monkeypatch.setattr("img2img.tiling.planner.free_memory", lambda device: 10 * 10**9)
    free = Planner(img2img.build(RECIPE))
    header = job("a.png", 3_000_000_000).header
    assert free.of_header(header) == free.of_header(job("a.png", 0).header)
    assert 4.2e9 < free.bytes_of(header) < 5e9
    with pytest.raises(img2img.errors.UserError, match="give --memory"):
        free.of_header(job("a.png", 4_000_000_000).header)


def test_hungry_files_go_last():
    jobs = [job("a", 0, 100), job("bomb", HUNGRY + 1, 20_000), job("b", 0, 9000), job("c", HUNGRY, 10_000)]
    assert [group[0].name for group in in_groups(jobs, 1)] == ["c", "b", "a", "bomb"]


def test_files_wait_until_there_is_room_for_them():
    jobs = [job(f"{number}.png", 300_000_000, 100) for number in range(3)]
    room = Room(planner(2e9), jobs)
    assert room.at_most <= room.limit == 2e9
    for each in jobs[:2]:
        assert room.fits([each])
        room.enter([each])
    assert not room.fits([jobs[2]])
    waiting = threading.Thread(target=room.enter, args=[[jobs[2]]], daemon=True)
    waiting.start()
    waiting.join(0.3)
    assert waiting.is_alive()
    room.leave(jobs[0])
    waiting.join(10)
    assert not waiting.is_alive()
    room.close()
    assert room.fits(jobs)


def test_files_that_fit_only_one_at_a_time_are_all_restored(tmp_path, photo, monkeypatch):
    folder = tmp_path / "in"
    folder.mkdir()
    for number in range(5):
        Image.fromarray(photo[: 40 + number]).save(folder / f"{number}.webp")
    entered = []
    enter = Room.enter
    monkeypatch.setattr("img2img.imaging.held._ENCODERS", {"webp": 12_000.0})  # 460 MB for each of them
    monkeypatch.setattr(Room, "enter", lambda room, jobs: (enter(room, jobs), entered.append(len(room._inside))))
    options = {"accelerator": "cpu", "precision": "32-true", "memory": "1800MB"}
    result = img2img.restore(folder, tmp_path / "out", model=save_model(tmp_path / "m.ckpt"), **options)
    assert len(result.restored) == 5
    assert entered == [1] * 5
