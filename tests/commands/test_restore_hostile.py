"""A folder of hostile and odd files, each with what must become of it."""

from __future__ import annotations

import io
import json
import os
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

import img2img.inference.jobs
from img2img.cli import main
from tests.commands.hostile_files import (
    Bad,
    Good,
    Unread,
    add_special,
    broken,
    contents,
    depths,
    encoded,
    fill,
    names,
)
from tests.commands.models import save_model

QUIET = ["--accelerator", "cpu", "--precision", "32-true"]


def decoded(path: Path) -> list[np.ndarray]:
    """The pages of a file, read by Pillow, or OpenCV for 16 bits and floats."""
    data = path.read_bytes()
    deep = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    if deep is not None and deep.dtype != np.uint8:
        return [deep if deep.ndim == 2 else deep[..., [2, 1, 0, 3][: deep.shape[2]]]]
    with Image.open(io.BytesIO(data)) as image:
        assert image.mode in ("L", "LA", "RGB", "RGBA"), (path, image.mode)
        pages = []
        for page in range(getattr(image, "n_frames", 1)):
            image.seek(page)
            pages.append(np.array(image))
    return pages


def seen(name: str) -> str:
    """A name as messages show it: nothing in it may move the cursor or break the line."""
    return "".join(char if char.isprintable() else repr(char)[1:-1] for char in name)


def test_each_of_many_odd_and_hostile_files_ends_as_it_should(tmp_path, photo, capsys, monkeypatch):
    table = depths(photo) | names(photo) | broken(photo)
    folder = Path("in")
    fill(folder, table)
    add_special(folder, table, tmp_path / "outside")
    assert len(table) >= 80
    before = contents(folder)
    listed = img2img.inference.jobs.list_jobs

    def list_then_lose_one(*arguments):
        jobs = listed(*arguments)
        (folder / "vanishes.png").unlink()
        return jobs

    monkeypatch.setattr(img2img.inference.jobs, "list_jobs", list_then_lose_one)
    with pytest.raises(SystemExit) as stop:
        main(["restore", "in", "out", "--model", str(save_model(tmp_path / "model.ckpt")), *QUIET])
    assert stop.value.code == 1
    good = {name: what for name, (_, what) in table.items() if isinstance(what, Good)}
    bad = {name: what for name, (_, what) in table.items() if isinstance(what, Bad)}

    captured = capsys.readouterr()
    complaints = [line for line in captured.err.split("\n") if line.startswith("not restored: ")]
    assert len(complaints) == len(bad)
    assert f"Restored {len(good)} image(s) into out, {len(bad)} could not be restored" in captured.out
    records = {record["name"]: record for record in json.loads(Path("out/restore_report.json").read_text())["files"]}
    assert set(records) == set(good) | set(bad)
    for name, what in bad.items():
        line = next(line for line in complaints if f"in/{seen(name)}" in line)
        assert what.reason in line, line
        assert (records[name]["status"], records[name]["reason"]) == ("failed", line.removeprefix("not restored: "))
    for name, what in good.items():
        assert records[name]["status"] == "restored", records[name]
        check(Path("out") / name, what)

    after = contents(folder)
    assert {name for name in before if name not in after} == {"vanishes.png"}
    assert all(after[name] == before[name] for name in after)
    left = [path for path in Path("out").rglob("*") if not path.is_dir()]
    own = {Path("out", name) for name in good} | {Path("out/restore_report.json")}
    assert {path for path in left if ".img2img" not in path.parts} == own


def check(path: Path, what: Good) -> None:
    """Compares an output with what it should hold."""
    pages = decoded(path)
    wanted = list(what.pixels) if what.pixels.ndim == 4 else [what.pixels]
    assert [(page.shape, page.dtype) for page in pages] == [(page.shape, page.dtype) for page in wanted], path
    for page, should in zip(pages, wanted, strict=True):
        assert np.abs(page.astype(float) - should).mean() <= what.off + 1e-6, path
        if should.ndim == 3 and should.shape[2] in (2, 4):
            np.testing.assert_array_equal(page[..., -1], should[..., -1], str(path))
    if what.format:
        assert Image.open(path).format == what.format


def test_names_that_become_one_in_another_format_all_survive(tmp_path, photo):
    pictures = {
        name: photo[top : top + 20, :30]
        for top, name in enumerate(
            ["a.jpg", "a.png", "a.JPG", "a.jpg.png", "b.tif", "b.webp", "c.bmp", "c.png/d.jpg", "e.jpeg", "e.jpg"]
        )
    }
    fill(Path("in"), {n: (encoded(p, n.rpartition(".")[2].lower()), Good(p)) for n, p in pictures.items()})
    main(["restore", "in", "out", "--format", "png", "--model", str(save_model(tmp_path / "model.ckpt")), *QUIET])
    report = json.loads(Path("out/restore_report.json").read_text())
    sources = {Path(record["source"]).relative_to("../in").as_posix(): record["name"] for record in report["files"]}
    assert set(sources) == set(pictures)
    assert sources["a.png"] == "a.png"
    assert set(contents(Path("out"))) == set(sources.values())
    for name, output in sources.items():
        check(Path("out", output), Good(pictures[name], 4, format="PNG"))


def test_a_name_that_grows_too_long_is_reported(tmp_path, photo, capsys):
    name = "x" * 251 + ".png"
    fill(Path("in"), {n: (encoded(photo[:9, :9], "png"), Unread()) for n in (name, "a.png")})
    with pytest.raises(SystemExit) as stop:
        main(["restore", "in", "out", "--format", "webp", "--model", str(save_model(tmp_path / "m.ckpt")), *QUIET])
    assert stop.value.code == 1
    assert "File name too long" in capsys.readouterr().err
    assert list(contents(Path("out"))) == ["a.webp"]
    with pytest.raises(SystemExit) as stop:  # now that the folder is there the system says it at other places
        main(["restore", "in", "out", "--format", "webp", "--model", str(tmp_path / "m.ckpt"), *QUIET])
    assert stop.value.code == 1


def test_a_subfolder_that_may_not_be_listed_is_reported(tmp_path, photo, capsys, monkeypatch):
    fill(Path("in"), {n: (encoded(photo[:9, :9], "png"), Unread()) for n in ("a.png", "locked/b.png")})
    listed = os.scandir

    def refuse(path: str):  # root may list everything, so no mode would do
        if os.path.basename(path) == "locked":
            raise PermissionError(13, "Permission denied", path)
        return listed(path)

    monkeypatch.setattr("img2img.imaging.folders.os.scandir", refuse)
    with pytest.raises(SystemExit) as stop:
        main(["restore", "in", "out", "--model", str(save_model(tmp_path / "m.ckpt")), *QUIET])
    assert stop.value.code == 1
    assert "cannot read in/locked: the folder may not be listed" in capsys.readouterr().err
    assert list(contents(Path("out"))) == ["a.png"]
