import errno
import os
import pickle
import time

import numpy as np
import pytest
from PIL import Image

import img2img.data.cache
from img2img.data.cache import DecodedCache, prepare_all
from img2img.imaging.files import UnreadableImage


@pytest.fixture
def cache(tmp_path):
    return DecodedCache(channels=3, limit_gb=1, folder=tmp_path / "decoded")


def test_pixels_come_back_memory_mapped(cache, tmp_path, photo):
    path = tmp_path / "a.png"
    Image.fromarray(photo).save(path)
    cache.prepare([path])
    opened = cache.open(path)
    assert isinstance(opened, np.memmap)
    np.testing.assert_array_equal(opened, photo)


def test_a_changed_source_is_decoded_anew(cache, tmp_path, photo):
    path = tmp_path / "a.png"
    Image.fromarray(photo).save(path)
    cache.prepare([path])
    Image.fromarray(255 - photo).save(path)
    other = DecodedCache(3, 1, cache.folder)
    np.testing.assert_array_equal(other.open(path), 255 - photo)  # before anybody prepared it again
    np.testing.assert_array_equal(cache.open(path), photo)  # a run goes on with what it began with
    cache.prepare([path])
    np.testing.assert_array_equal(cache.open(path), 255 - photo)


@pytest.mark.parametrize("harm", ["vanished", "damaged"])
def test_an_image_that_is_lost_during_a_run_is_read_from_its_copy(cache, tmp_path, photo, harm):
    path = tmp_path / "a.png"
    Image.fromarray(photo).save(path)
    cache.prepare([path])
    late = DecodedCache(3, 1, cache.folder)  # another process of the run
    assert late.problem(path) is None
    path.unlink()
    if harm == "damaged":
        path.write_bytes(b"\x89PNG\r\n\x1a\n and then nothing")
    for opener in (cache, late, pickle.loads(pickle.dumps(cache))):
        np.testing.assert_array_equal(opener.open(path), photo)
        assert opener.problem(path) is None


@pytest.mark.parametrize("kept", [0, 10, 200, -1])
def test_a_damaged_copy_is_made_again(tmp_path, photo, kept):
    path = tmp_path / "a.png"
    Image.fromarray(photo).save(path)
    DecodedCache(3, 1, tmp_path / "decoded").prepare([path])
    (copy,) = (tmp_path / "decoded").glob("*.npy")
    data = copy.read_bytes()
    for step in ("open", "prepare"):
        another = tmp_path / step
        another.mkdir()
        (another / copy.name).write_bytes(data[:kept])  # each in a folder that no map is open of
        cache = DecodedCache(3, 1, another)
        if step == "prepare":
            cache.prepare([path])
            assert isinstance(cache.open(path), np.memmap)
        assert cache.problem(path) is None
        np.testing.assert_array_equal(cache.open(path), photo)


@pytest.mark.parametrize("suffix", [".bad", ".large"])
def test_an_empty_note_is_ignored(cache, tmp_path, photo, suffix):
    path = tmp_path / "a.png"
    Image.fromarray(photo).save(path)
    cache.folder.mkdir()
    cache._file(path, suffix).write_bytes(b"")
    cache.prepare([path])
    assert cache.problem(path) is None
    assert isinstance(cache.open(path), np.memmap)


def test_a_full_disk_costs_time_and_one_warning(tmp_path, photo, monkeypatch):
    paths = [tmp_path / f"{i}.png" for i in range(3)]
    for path in paths:
        Image.fromarray(photo).save(path)

    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("img2img.imaging.parts.os.fsync", full)
    cache = DecodedCache(3, 1, tmp_path / "decoded")
    with pytest.warns(UserWarning, match="No space left on device.*decoded at each use") as caught:
        cache.prepare(paths)
    assert len(caught) == 1
    assert list(cache.folder.iterdir()) == []
    for path in paths:
        assert cache.problem(path) is None
        np.testing.assert_array_equal(cache.open(path), photo)


def test_a_folder_that_cannot_be_made_costs_time_and_one_warning(tmp_path, photo):
    Image.fromarray(photo).save(tmp_path / "a.png")
    (tmp_path / "file").write_text("")
    cache = DecodedCache(3, 1, tmp_path / "file" / "decoded")
    with pytest.warns(UserWarning, match="Not a directory"):
        cache.prepare([tmp_path / "a.png"])
    assert cache.problem(tmp_path / "a.png") is None
    np.testing.assert_array_equal(cache.open(tmp_path / "a.png"), photo)


@pytest.mark.parametrize("harm", ["edited", "deleted"])
def test_a_file_that_changes_while_it_is_decoded_is_not_stored(cache, tmp_path, photo, harm, monkeypatch):
    path = tmp_path / "a.png"
    Image.fromarray(photo).save(path)
    read = img2img.data.cache.read_finite

    def disturbed(file):
        image = read(file)
        path.unlink()
        if harm == "edited":
            Image.fromarray(255 - photo).save(path)
        return image

    with monkeypatch.context() as patch:
        patch.setattr(img2img.data.cache, "read_finite", disturbed)
        cache.prepare([path])
    assert list(cache.folder.glob("*")) == []
    if harm == "edited":
        np.testing.assert_array_equal(cache.open(path), 255 - photo)
    else:
        for missing in (path, tmp_path / "never.png"):
            assert "No such file" in cache.problem(missing)
            with pytest.raises(UnreadableImage, match="No such file"):
                cache.open(missing)


def test_what_killed_processes_left_is_removed(cache, tmp_path, photo):
    Image.fromarray(photo).save(tmp_path / "a.png")
    cache.folder.mkdir()
    for name, age in ((".tmpold", 7200), (".new.part", 1)):
        (cache.folder / name).write_bytes(b"half")
        os.utime(cache.folder / name, (time.time() - age,) * 2)
    cache.prepare([tmp_path / "a.png"])
    assert {file.name for file in cache.folder.glob(".*")} == {".new.part"}


def test_switched_off_it_stores_nothing_and_still_opens(tmp_path, photo):
    path = tmp_path / "a.png"
    Image.fromarray(photo).save(path)
    cache = DecodedCache(3, limit_gb=0, folder=tmp_path / "decoded")
    cache.prepare([path])
    assert not cache.folder.exists()
    assert cache.problem(path) is None
    np.testing.assert_array_equal(cache.open(path), photo)


def test_it_stays_within_its_limit_and_evicts_the_least_recently_used(tmp_path, photo):
    paths = [tmp_path / f"{i}.png" for i in range(4)]
    for path in paths:
        Image.fromarray(photo).save(path)
    two_images = 2.5 * photo.nbytes / 1e9
    cache = DecodedCache(3, two_images, tmp_path / "decoded")
    cache.prepare(paths[:2])
    for age, path in ((100, paths[0]), (200, paths[1])):  # 1 was used longest ago
        os.utime(cache._file(path, ".npy"), (1e9 - age, 1e9 - age))
    cache.prepare(paths[2:3])
    kept = [isinstance(cache.open(path), np.memmap) for path in paths[:3]]
    assert kept == [True, False, True]
    cache.prepare(paths)  # more than fits: the rest is decoded at each use
    assert sum(file.stat().st_size for file in cache.folder.glob("*.npy")) <= cache.limit
    for path in paths:
        assert cache.problem(path) is None
        np.testing.assert_array_equal(cache.open(path), photo)


@pytest.mark.parametrize("limit", [1, 0])
def test_unreadable_files_are_known_with_their_reason(tmp_path, limit):
    path = tmp_path / "broken.png"
    path.write_bytes(b"\x89PNG\r\n\x1a\n and then nothing")
    cache = DecodedCache(3, limit, tmp_path / "decoded")
    cache.prepare([path])
    assert "broken.png" in cache.problem(path)
    with pytest.raises(UnreadableImage, match=r"broken\.png"):
        cache.open(path)


def test_gray_and_colour_are_kept_apart(tmp_path, photo):
    path = tmp_path / "a.png"
    Image.fromarray(photo).save(path)
    for channels in (1, 3):
        cache = DecodedCache(channels, 1, tmp_path / "decoded")
        cache.prepare([path])
        assert cache.open(path).shape == (*photo.shape[:2], channels)


def test_sixteen_bits_stay(cache, tmp_path):
    import cv2

    image = np.arange(64 * 48 * 3, dtype=np.uint16).reshape(48, 64, 3) * 7
    cv2.imwrite(str(tmp_path / "a.tif"), image[..., ::-1])
    cache.prepare([tmp_path / "a.tif"])
    np.testing.assert_array_equal(cache.open(tmp_path / "a.tif"), image)


def test_it_can_be_sent_to_spawned_workers(cache):
    assert pickle.loads(pickle.dumps(cache)).folder == cache.folder


def test_what_did_not_fit_is_stored_when_there_is_room(tmp_path, photo):
    Image.fromarray(photo).save(tmp_path / "a.png")
    for limit, stored in ((1e-6, False), (1, True)):
        cache = DecodedCache(3, limit, tmp_path / "decoded")
        cache.prepare([tmp_path / "a.png"])
        assert isinstance(cache.open(tmp_path / "a.png"), np.memmap) == stored


def test_a_permission_given_later_is_noticed(cache, tmp_path, photo, monkeypatch):
    Image.fromarray(photo).save(tmp_path / "a.png")

    def denied(*_, **__):
        raise PermissionError(13, "Permission denied")

    with monkeypatch.context() as patch:
        patch.setattr("img2img.imaging.reading.open_stored", denied)
        cache.prepare([tmp_path / "a.png"])
        assert "Permission denied" in cache.problem(tmp_path / "a.png")
    assert cache.problem(tmp_path / "a.png") is None


class Scaled:
    """Finishes images by a factor, and counts how often."""

    def __init__(self, factor):
        self.factor, self.calls = factor, 0

    def key(self, path):
        return f"scaled {self.factor}"

    def __call__(self, path, pixels):
        self.calls += 1
        return pixels.astype(np.float32) * np.float32(self.factor)


@pytest.mark.parametrize("limit", [1, 0])
def test_finished_images_are_kept_apart_from_plain_ones_and_from_otherwise_finished_ones(tmp_path, photo, limit):
    path = tmp_path / "a.png"
    Image.fromarray(photo).save(path)
    plain = DecodedCache(3, limit, tmp_path / "decoded")
    half, triple = plain.finished_by(Scaled(0.5)), plain.finished_by(Scaled(3))
    prepare_all([(plain, [path]), (half, [path]), (triple, [path])])
    np.testing.assert_array_equal(plain.open(path), photo)
    np.testing.assert_array_equal(half.open(path), photo.astype(np.float32) / 2)
    np.testing.assert_array_equal(triple.open(path), photo.astype(np.float32) * 3)
    assert triple.open(path).dtype == np.float32
    assert triple.problem(path) is None
    assert triple.finishes[0].calls == (1 if limit else 2)  # once, or at each use; not to look for a problem
    assert isinstance(triple.open(path), np.memmap) == bool(limit)


def test_caches_of_one_run_do_not_make_room_at_each_others_cost(tmp_path, photo):
    paths = [tmp_path / f"{i}.png" for i in range(3)]
    for path in paths:
        Image.fromarray(photo).save(path)
    plain = DecodedCache(3, 2.5 * photo.nbytes / 1e9, tmp_path / "decoded")  # room for two
    gray = DecodedCache(1, plain.limit / 1e9, plain.folder)
    plain.prepare(paths[2:])  # another run
    prepare_all([(plain, paths[:2]), (gray, paths[:1])])
    assert all(isinstance(plain.open(path), np.memmap) for path in paths[:2])
    assert isinstance(gray.open(paths[0]), np.memmap)
    assert not isinstance(plain.open(paths[2]), np.memmap)
    prepare_all([(plain, paths[:2]), (gray, paths[1:])])  # more than fits: what is there stays
    assert all(isinstance(plain.open(path), np.memmap) for path in paths[:2])
