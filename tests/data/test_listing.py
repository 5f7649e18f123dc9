"""Folders of many images: listed once, kept as text, read on use, with the samples of a small folder."""

import io
import os
import pickle
import shutil
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from img2img.data import CorruptedPairs, listing, names
from img2img.data.listing import images_of
from img2img.data.names import ManyPaths, Names, write_names
from img2img.data.stream import _permutation, image_of_sample
from img2img.imaging.folders import find_images

OLD = time.time() - 3600


@pytest.fixture
def many(tmp_path, photos, monkeypatch) -> Path:
    """Thirty photographs in folders of odd names, which an hour ago were last changed."""
    folder = tmp_path / "many"
    sources = sorted(photos.rglob("*.png"))
    for number in range(30):
        below = ("", "a", "a b", "a-b/ä", "z")[number % 5]
        (folder / below).mkdir(parents=True, exist_ok=True)
        shutil.copy(sources[number % 10], folder / below / f"{number}.png")
    age(folder)
    monkeypatch.setenv("IMG2IMG_CACHE", str(tmp_path / "cache"))
    return folder


def age(folder: Path) -> None:
    """Lets a folder seem unchanged for long: this test changed it within the seconds that are not trusted."""
    for place in (folder, *(path for path in folder.rglob("*") if path.is_dir())):
        os.utime(place, (OLD, OLD))


@pytest.fixture
def few(monkeypatch) -> None:
    """Five images are many."""
    monkeypatch.setattr(names, "LARGE", 5)
    monkeypatch.setattr(listing, "_RECENT_NS", -(10**18))  # the time of change of the inode cannot be set back


@pytest.fixture
def walks(monkeypatch) -> list[str]:
    """The folders that were listed."""
    seen: list[str] = []
    walk = listing.walk_images
    monkeypatch.setattr(listing, "walk_images", lambda folder, **rest: seen.append(str(folder)) or walk(folder, **rest))
    return seen


def samples(folder: Path) -> list[dict]:
    data = CorruptedPairs(str(folder), crop_size=16, samples_per_epoch=4)
    data.prepare_data()
    data.setup("fit")
    pairs = data.training_pairs()
    return [*map(pairs.__getitem__, range(60)), *data.val_dataloader()]


def test_a_large_folder_gives_the_samples_of_a_small_one(many, request):
    small = samples(many)
    request.getfixturevalue("few")
    assert isinstance(images_of(many), ManyPaths)
    for one, other in zip(small, samples(many), strict=True):
        assert one["path"] == other["path"]
        assert torch.equal(one["input"], other["input"])


def test_a_large_folder_is_listed_once_until_it_changes(many, few, walks):
    first = list(images_of(many))
    assert first == find_images(many)
    assert list(images_of(many)) == first
    assert len(walks) == 1
    changes = [
        lambda: shutil.copy(first[0], many / "a" / "new.png"),
        (many / "a-b" / "ä" / "3.png").unlink,
        lambda: (many / "a" / "new.png").rename(many / "a" / "newer.png"),
        lambda: (many / "z").rename(many / "y"),
        lambda: shutil.copytree(many / "a", many / "a-b" / "inner"),
    ]
    for number, change in enumerate(changes):
        change()
        assert list(images_of(many)) == find_images(many)
        assert len(walks) == number + 2
    assert list(images_of(many)) == find_images(many)
    assert len(walks) == len(changes) + 1


def test_a_folder_that_changed_just_now_is_listed_again(many, walks, monkeypatch):
    monkeypatch.setattr(names, "LARGE", 5)
    for number in (1, 2):
        images_of(many)
        assert len(walks) == number


def test_a_linked_folder_that_changes_is_noticed(many, few, walks, tmp_path):
    outside = tmp_path / "outside"
    shutil.copytree(many / "a", outside)
    (many / "link").symlink_to(outside)
    images_of(many)
    shutil.copy(outside / "1.png", outside / "new.png")
    assert many / "link" / "new.png" in images_of(many)


def test_a_damaged_list_is_made_again_and_old_lists_are_deleted(many, few, walks, tmp_path):
    images_of(many)
    for file in (tmp_path / "cache" / "listings").rglob(names.NAMES):
        file.write_bytes(b"short")
    listing._opened.cache_clear()
    assert list(images_of(many)) == find_images(many)
    for number in range(10):
        images_of(shutil.copytree(many, tmp_path / f"copy{number}"))
    assert len(list((tmp_path / "cache" / "listings").glob("*/*"))) == 8


def test_without_a_place_for_the_list_it_stays_in_memory(many, few, monkeypatch):
    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(listing.tempfile, "mkdtemp", full)
    paths = images_of(many)
    assert list(paths) == find_images(many)
    assert list(pickle.loads(pickle.dumps(paths))) == list(paths)


def test_an_unreadable_image_of_many_is_passed_over_alike_by_all(many, few):
    whole = {sample["n"]: sample for sample in samples(many)[:60]}
    damaged = whole[7]["path"]
    Path(damaged).write_bytes(b"no image")
    with pytest.warns(UserWarning, match="skipped an unreadable file"):
        after = samples(many)[:60]
    assert torch.equal(after[7]["input"], samples(many)[7]["input"])
    for sample in after:
        assert sample["path"] != damaged
        if whole[sample["n"]]["path"] != damaged:
            assert torch.equal(sample["input"], whole[sample["n"]]["input"])


def test_names_are_found_and_cut_right():
    text, ends = io.BytesIO(), io.BytesIO()
    given = sorted(["a/ä.png", "b.png", "b/c.png", "\udcff.png", "日本.png", "😀.png"])
    assert write_names(given, text, ends) == 6
    found = Names(np.frombuffer(text.getvalue(), np.uint8), np.frombuffer(ends.getvalue(), np.dtype("<u8")))
    assert list(found) == found[:] == given
    assert [found.number_of(name) for name in given] == list(range(6))
    assert found.number_of("b") is None
    assert found.first_from("b0") == given.index("b/c.png") + 1


def test_the_order_of_large_passes_is_that_of_small_ones():
    before = np.random.default_rng([3, 5]).permutation(1000)  # as stored in checkpoints of earlier versions
    assert [image_of_sample(3, 1000, 5000 + k) for k in range(1000)] == before.tolist()
    assert _permutation(3, 200_000, 1).tolist() == np.random.default_rng([3, 1]).permutation(200_000).tolist()


def test_an_epoch_of_a_large_folder_covers_it(many, few, monkeypatch):
    Image.new("RGB", (16, 160)).save(many / "long.png")
    data = CorruptedPairs(str(many), crop_size=16, batch_size=1, share=0, val_dir=str(many / "a"))
    data.prepare_data()
    data.setup("fit")
    assert data._batches_in_epoch() == 30 * 12 + 10
    monkeypatch.setattr(names, "_MEASURED", 10)  # of which none or one is the long one
    assert data._batches_in_epoch() in (31 * 12, -(-31 * (9 * 12 + 10) // 10))
