"""Shards, on disk and on an S3 server of this machine, give the samples that the folder of images gives."""

import pickle
import shutil
import tarfile
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader

import img2img
from img2img.corruptions import GaussianNoise
from img2img.data import CorruptedPairs, FolderPairs, WholeImages, remote, shards
from img2img.data.pairs import collate
from img2img.data.shard_images import part_of_shards
from img2img.data.sharding import Sharded
from img2img.errors import UserError
from tests.data.s3_server import s3_server

pytest.importorskip("s3fs")
pytest.importorskip("moto")


@pytest.fixture(scope="module")
def bucket():
    with s3_server() as address:
        yield address


@pytest.fixture(autouse=True)
def _new_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("IMG2IMG_CACHE", str(tmp_path / "cache"))
    shards._opened.cache_clear()


@pytest.fixture
def flat(tmp_path, photos) -> Path:
    """Ten photographs in one folder and a folder below it, which is split by image."""
    folder = tmp_path / "flat"
    for number, path in enumerate(sorted(photos.rglob("*.png"))):
        target = folder / ("day 2" if number % 2 else "") / f"{number}ä.png"
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, target)
    return folder


def data_of(root: object, **options) -> CorruptedPairs:
    data = CorruptedPairs(str(root), crop_size=24, **options)
    data.prepare_data()
    data.setup("fit")
    data.setup("test")
    return data


def assert_same(one: CorruptedPairs, other: CorruptedPairs) -> None:
    """Both give the same samples, of all splits, and epochs of the same length."""
    assert one.image_counts() == other.image_counts()
    assert one._batches_in_epoch() == other._batches_in_epoch()
    mine, yours = one.training_pairs(), other.training_pairs()
    for n in range(20):
        assert torch.equal(mine[n]["input"], yours[n]["input"])
        assert torch.equal(mine[n]["target"], yours[n]["target"])
        assert Path(mine[n]["path"]).name == Path(yours[n]["path"]).name
    for loaders in ((one.val_dataloader(), other.val_dataloader()), (one.test_dataloader(), other.test_dataloader())):
        for first, second in zip(*loaders, strict=True):
            assert torch.equal(first["input"], second["input"])


def test_shards_are_plain_tar_files_of_the_same_bytes(photos):
    done = img2img.shard(str(photos), "shards", shard_mb=1)
    assert done == Sharded(10, 1, sum(path.stat().st_size for path in photos.rglob("*.png")), [])
    with tarfile.open("shards/shard-000000.tar") as archive:
        archive.extractall("copy", filter="data")
    for path in photos.rglob("*.png"):
        assert (Path("copy") / path.relative_to(photos)).read_bytes() == path.read_bytes()


@pytest.mark.parametrize("cache_gb", [1, 0])  # decoded before training, and on use
@pytest.mark.parametrize("layout", ["photos", "flat"])
def test_shards_give_the_samples_of_the_folder(layout, cache_gb, request, monkeypatch):
    folder = request.getfixturevalue(layout)
    monkeypatch.setattr("img2img.data.sharding._TOGETHER", 3)
    img2img.shard(str(folder), "shards")
    assert_same(data_of(folder, cache_gb=cache_gb), data_of("shards", cache_gb=cache_gb))


def test_images_go_into_as_many_shards_as_they_fill(tmp_path):
    (tmp_path / "noise").mkdir()
    for number in range(6):
        pixels = np.random.default_rng(number).integers(0, 256, (350, 400, 3), np.uint8)
        Image.fromarray(pixels).save(tmp_path / "noise" / f"{number}.bmp")
    assert img2img.shard(str(tmp_path / "noise"), "shards", shard_mb=1).shards == 2
    assert_same(data_of(tmp_path / "noise"), data_of("shards", cache_gb=0))


def test_roots_of_both_kinds_are_mixed_as_two_folders_are(photos, flat):
    for number, folder in enumerate((photos, flat)):
        img2img.shard(str(folder), f"shards{number}")
    folders = CorruptedPairs([str(photos), str(flat)], crop_size=24)
    for cache_gb in (1, 0):
        mixed = CorruptedPairs(["shards0", str(flat)], crop_size=24, cache_gb=cache_gb)
        for data in (folders, mixed):
            data.prepare_data()
            data.setup("fit")
            data.setup("test")
        assert_same(folders, mixed)


def test_whole_images_of_shards_are_scaled_and_fixed_corruption_stays(photos):
    img2img.shard(str(photos), "shards")
    for options in ({"cache_gb": 1}, {"cache_gb": 0}):
        one, other = (WholeImages(image_size=(16, 16), root=root, **options) for root in (str(photos), "shards"))
        for data in (one, other):
            data.prepare_data()
            data.setup("fit")
        assert torch.equal(one.training_pairs()[3]["input"], other.training_pairs()[3]["input"])
        noisy = {"fixed_corruption": [GaussianNoise(25)], **options}
        assert_same(data_of(photos, **noisy), data_of("shards", **noisy))


def test_a_file_that_cannot_be_read_is_named_and_left_out(photos):
    (photos / "train" / "bad.png").write_bytes(b"no image")
    done = img2img.shard(str(photos), "shards")
    assert done.images == 10
    assert len(done.problems) == 1
    assert "bad.png" in done.problems[0]


def test_an_output_in_use_and_a_folder_without_images_are_refused(photos, tmp_path):
    img2img.shard(str(photos), "shards")
    with pytest.raises(UserError, match="not empty"):
        img2img.shard(str(photos), "shards")
    (tmp_path / "empty").mkdir()
    with pytest.raises(FileNotFoundError, match="no images"):
        img2img.shard(str(tmp_path / "empty"), "others")
    assert not Path("others").exists()


def test_what_was_not_finished_leaves_nothing(photos, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("img2img.data.sharding.synced", full)
        with pytest.raises(UserError, match="cannot write shards to shards: No space left on device"):
            img2img.shard(str(photos), "shards")
    assert list(Path("shards").iterdir()) == []
    assert img2img.shard(str(photos), "shards").images == 10


def test_shards_without_their_index_or_with_a_damaged_one_are_refused(photos):
    img2img.shard(str(photos), "shards")
    whole = Path("shards/names.bin").read_bytes()
    Path("shards/names.bin").write_bytes(whole[:-3])
    with pytest.raises(UserError, match="index of the shards in shards is damaged"):
        data_of("shards")
    Path("shards/names.bin").write_bytes(whole)
    Path("shards/img2img_shards.json").write_text("{]")
    with pytest.raises(UserError, match="index of the shards in shards is damaged"):
        data_of("shards")
    Path("shards/img2img_shards.json").unlink()
    with pytest.raises(FileNotFoundError, match="no images"):
        data_of("shards")


def test_damaged_bytes_are_noticed_and_passed_over_and_a_missing_shard_is_named(photos):
    img2img.shard(str(photos), "shards")
    tar = Path("shards/shard-000000.tar")
    with tarfile.open(tar) as archive:
        place = next(entry.offset_data for entry in archive if entry.name.startswith("train/"))
    data = bytearray(tar.read_bytes())
    data[place + 100] ^= 1
    tar.write_bytes(data)
    unchecked = data_of("shards", cache_gb=0).training_pairs()
    with pytest.warns(UserWarning, match="its bytes in the shard are damaged"):
        samples = [unchecked[n] for n in range(12)]
    assert len({sample["path"] for sample in samples}) == 5
    tar.rename("elsewhere.tar")
    with pytest.raises(UserError, match=r"cannot read shards/shard-000000.tar: No such file"):
        unchecked[0]
    Path("elsewhere.tar").rename(tar)
    with pytest.warns(UserWarning, match="skipped 1 unreadable.*its bytes in the shard are damaged"):
        assert data_of("shards").image_counts()["train"] == 5


def test_pairs_are_not_read_from_shards(photos):
    img2img.shard(str(photos), "shards")
    with pytest.raises(UserError, match="pairs are read from two folders"):
        FolderPairs("shards", "shards").prepare_data()


def test_paths_go_to_worker_processes_without_the_index(photos):
    img2img.shard(str(photos), "shards")
    paths = part_of_shards(Path("shards"), "train")
    sent = pickle.dumps(paths)
    assert len(sent) < 500
    assert list(pickle.loads(sent)) == list(paths)


@pytest.mark.parametrize("cache_gb", [1, 1e-5])  # all decoded before training; some bytes kept
def test_remote_shards_give_the_samples_of_the_folder(bucket, photos, cache_gb):
    img2img.shard(str(photos), f"{bucket}/same-{cache_gb}")
    assert_same(data_of(photos), data_of(f"{bucket}/same-{cache_gb}", cache_gb=cache_gb))


def test_remote_shards_are_read_by_forked_workers_after_the_main_process(bucket, photos):
    img2img.shard(str(photos), f"{bucket}/workers")
    pairs = data_of(f"{bucket}/workers", cache_gb=0).training_pairs()
    here = [pairs[n]["input"] for n in range(8)]
    loader = DataLoader(pairs, batch_size=2, sampler=range(8), num_workers=2, collate_fn=collate, timeout=60)
    there = torch.cat([batch["input"] for batch in loader])
    assert torch.equal(torch.stack(here).permute(0, 3, 1, 2), there)


def test_bytes_of_remote_shards_are_kept_up_to_the_limit(bucket, photos, tmp_path, monkeypatch):
    img2img.shard(str(photos), f"{bucket}/first")
    total = sum(path.stat().st_size for path in (photos / "train").glob("*.png"))
    asked = []
    monkeypatch.setattr(shards, "remote_range", lambda *place: asked.append(place) or remote.remote_range(*place))
    kept = tmp_path / "cache" / "shards"

    def fetched(root: str, limit: float) -> int:
        asked.clear()
        pairs = data_of(root, cache_gb=limit / 1e9).training_pairs()
        for n in range(60):
            pairs[n]
        sizes = [path.stat().st_size for path in kept.glob("*/[0-9]*/*")]
        assert sum(sizes) <= limit
        return len(asked)

    monkeypatch.setattr(CorruptedPairs, "_on_use", lambda self, source: True)
    assert fetched(f"{bucket}/first", 10 * total) == 6  # the six training images, once
    assert fetched(f"{bucket}/first", 10 * total) == 0
    some = fetched(f"{bucket}/first", 10 * total / 2 / 5)
    assert some > 0


def test_bytes_of_other_shards_make_room(bucket, photos, flat, tmp_path):
    for name, folder in (("old", photos), ("new", flat)):
        img2img.shard(str(folder), f"{bucket}/{name}")
    size = sum(path.stat().st_size for path in flat.rglob("*.png"))
    opened = [shards.open_shards(Path(f"s3:/{bucket[5:]}/{name}")) for name in ("old", "new")]
    for one in opened:
        for number in range(3):
            one.load(number, one.kept(number, 10**9))
    shards.make_room([opened[1]], 3 * size)
    assert opened[0].cache.exists()
    shards.make_room([opened[1]], size)
    assert not opened[0].cache.exists()
    assert len(list(opened[1].cache.glob("0/*"))) == 3


def test_a_damaged_kept_file_is_fetched_again(bucket, photos):
    img2img.shard(str(photos), f"{bucket}/again")
    held = shards.open_shards(Path(f"s3:/{bucket[5:]}/again"))
    kept = held.kept(0, 10**9)
    held.load(0, kept)
    whole = kept.read_bytes()
    kept.write_bytes(b"")
    held.load(0, kept)
    assert kept.read_bytes() == whole


def test_what_is_wrong_with_an_address_is_said(bucket, photos, monkeypatch):
    with pytest.raises(UserError, match=r"s3://photographs/nothing holds no shards"):
        data_of(f"{bucket}/nothing")
    remote.upload(next(photos.rglob("*.png")), Path(f"s3:/{bucket[5:]}/plain/a.png"))
    with pytest.raises(UserError) as plain:  # photographs that are not in shards
        data_of(f"{bucket}/plain")
    assert str(plain.value) == (
        "s3://photographs/plain holds no shards; write them with: img2img shard PHOTOS s3://photographs/plain"
    )
    with pytest.raises(UserError, match=r"ftp://x/y: images are read from folders and from s3://, gs://"):
        data_of("ftp://x/y")
    img2img.shard(str(photos), f"{bucket}/taken")
    with pytest.raises(UserError, match="already holds shards"):
        img2img.shard(str(photos), f"{bucket}/taken")

    def missing(*_, **__):
        raise ImportError

    monkeypatch.setattr("fsspec.filesystem", missing)
    with pytest.raises(UserError, match=r"gs:// needs a client: pip install '.\[gs\]'"):
        data_of("gs://bucket/photos")
