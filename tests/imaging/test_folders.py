"""Which images a folder holds, in which order."""

import pytest

from img2img.imaging.files import (
    find_images,
)


def test_find_images_sorts_and_skips(tmp_path):
    names = ["b.JPG", "a/z.png", "a.png", "a-b/x.Tiff", "B/q.webp", "c.bmp", "ä.jpeg", "deep/er/k.tif"]
    others = ["notes.txt", ".hidden.png", ".git/x.png", "a/.trash/y.jpg", "png", "folder.png/inner.jpg"]
    for name in names + others:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    found = [path.relative_to(tmp_path).as_posix() for path in find_images(tmp_path)]
    assert found == sorted([*names, "folder.png/inner.jpg"])


def test_find_images_accepts_a_hidden_root(tmp_path):
    (tmp_path / ".cache").mkdir()
    (tmp_path / ".cache" / "a.png").touch()
    assert find_images(tmp_path / ".cache") == [tmp_path / ".cache" / "a.png"]


def test_find_images_survives_links(tmp_path):
    for name in ("root/a", "root/b", "outside"):
        (tmp_path / name).mkdir(parents=True)
        (tmp_path / name / "x.png").touch()
    try:
        (tmp_path / "root/a/self").symlink_to(tmp_path / "root/a")
        (tmp_path / "root/a/up").symlink_to(tmp_path)
        (tmp_path / "root/a/b").symlink_to(tmp_path / "root/b")
        (tmp_path / "root/b/a").symlink_to(tmp_path / "root/a")
        (tmp_path / "root/more").symlink_to(tmp_path / "outside")
        (tmp_path / "root/gone.png").symlink_to(tmp_path / "nowhere.png")
    except OSError:
        pytest.skip("no links here")
    found = [path.relative_to(tmp_path / "root").as_posix() for path in find_images(tmp_path / "root")]
    assert found == ["a/b/x.png", "a/x.png", "b/a/x.png", "b/x.png", "more/x.png"]


def test_find_images_names_what_is_wrong(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no such folder: .*nothing"):
        find_images(tmp_path / "nothing")
    (tmp_path / "file.png").touch()
    with pytest.raises(NotADirectoryError, match=r"not a folder: .*file\.png"):
        find_images(tmp_path / "file.png")
