import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import get_args

import pytest
from PIL import Image

from img2img.data.splits import Split, find_split, mix, resolve_root, whole_folder
from img2img.errors import UserError


@pytest.fixture
def flat(tmp_path, photos):
    root = tmp_path / "flat"
    for i, source in enumerate(sorted(photos.rglob("*.png"))):
        (root / f"day{i % 3}").mkdir(parents=True, exist_ok=True)
        shutil.copy(source, root / f"day{i % 3}" / source.name)
    return root


def test_a_divided_root_is_taken_as_it_is(photos):
    counts = {split: len(find_split(photos, split, 0, 0.1).paths) for split in get_args(Split)}
    assert counts == {"train": 6, "val": 2, "test": 2}


def test_one_folder_is_divided_without_overlap_and_by_seed(flat):
    parts = {split: set(find_split(flat, split, 0, 0.2).paths) for split in get_args(Split)}
    assert {split: len(paths) for split, paths in parts.items()} == {"train": 6, "val": 2, "test": 2}
    assert len(set.union(*parts.values())) == 10
    assert parts["val"] == set(find_split(flat, "val", 0, 0.2).paths)
    assert any(parts["val"] != set(find_split(flat, "val", seed, 0.2).paths) for seed in range(1, 4))


def test_a_copy_of_the_folder_elsewhere_is_divided_alike(flat, tmp_path):
    copy = tmp_path / "elsewhere" / "copy"
    shutil.copytree(flat, copy)
    original, copied = (find_split(root, "test", 0, 0.2) for root in (flat, copy))
    assert [original.name(p) for p in original.paths] == [copied.name(p) for p in copied.paths]


def test_test_falls_back_to_val(photos):
    shutil.rmtree(photos / "test")
    assert find_split(photos, "test", 0, 0.1).paths == find_split(photos, "val", 0, 0.1).paths


@pytest.mark.parametrize(("split", "said"), [("val", "no val/"), ("test", "no val/")])
def test_missing_folders_are_named(photos, split, said):
    shutil.rmtree(photos / "test")
    shutil.rmtree(photos / "val")
    with pytest.raises(FileNotFoundError, match=said):
        find_split(photos, split, 0, 0.1)


def test_empty_and_too_small_folders_are_named(tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(FileNotFoundError, match=r"no images .* under .*empty"):
        find_split(tmp_path / "empty", "train", 0, 0.1)
    Image.new("RGB", (8, 8)).save(tmp_path / "empty" / "one.png")
    with pytest.raises(FileNotFoundError, match="too few to split"):
        find_split(tmp_path / "empty", "train", 0, 0.1)


def test_the_starter_set_is_found_from_anywhere():
    assert (resolve_root("starter") / "train").is_dir()
    with pytest.raises(FileNotFoundError, match="startr does not exist"):
        resolve_root("startr")


def test_several_folders_are_drawn_from_by_their_weights(photos, flat):
    parts = [find_split(root, "train", 0, 0.1) for root in (photos, flat)]
    source = mix(parts, [3, 1])
    drawn = [source.of_sample(0, n) for n in range(2000)]
    assert sum(path.is_relative_to(photos) for path in drawn) == 1500
    assert set(drawn) == set(source.paths) == {*parts[0].paths, *parts[1].paths}
    assert {source.name(path) for path in parts[0].paths} == {parts[0].name(path) for path in parts[0].paths}


def test_a_folder_that_loses_its_images_loses_its_turns(photos, flat):
    parts = [find_split(root, "train", 0, 0.1) for root in (photos, flat)]
    kept = mix(parts, [3, 1]).restricted(set(parts[1].paths))
    assert {kept.of_sample(0, n) for n in range(100)} == set(parts[1].paths)


def test_nothing_need_be_held_out(flat):
    assert len(find_split(flat, "train", 0, 0).paths) == 10
    with pytest.raises(FileNotFoundError, match="share: 0 keeps no images"):
        find_split(flat, "val", 0, 0)


def test_pictures_of_earlier_runs_are_left_out(tmp_path, photo):
    for number in range(4):
        Image.fromarray(photo[:9, :9]).save(tmp_path / f"{number}.png")
    run, other = tmp_path / "runs" / "denoise" / "0", tmp_path / "runs" / "abroad"
    for folder in (run, other):
        folder.mkdir(parents=True)
        Image.fromarray(photo[:9, :9]).save(folder / "grid.png")
    (run / "config.yaml").write_text("model: {}")
    with pytest.warns(UserWarning, match="left out the pictures of earlier runs, in .*denoise/0"):
        found = whole_folder(tmp_path)
    assert [path.relative_to(tmp_path).as_posix() for path in found.paths] == [
        *(f"{number}.png" for number in range(4)),
        "runs/abroad/grid.png",
    ]


@pytest.fixture
def series(tmp_path, photo) -> Path:
    """A folder of 13 parts with one to four photographs each, 31 in all."""
    for part in range(13):
        for shot in range(1 + part * 7 % 4):
            Image.fromarray(photo[:9, :9]).save(tmp_path / f"part{part}_{1000 * part + 10 * shot}.png")
    return tmp_path


def part_numbers(paths: Sequence[Path]) -> set[str]:
    return {path.stem.split("_")[0] for path in paths}


@pytest.mark.parametrize("group_by", [11, r"part(\d+)_"])
@pytest.mark.parametrize("seed", [0, 1])
def test_photographs_of_a_part_stay_on_one_side(series, group_by, seed):
    parts = {split: find_split(series, split, seed, 0.2, "", group_by).paths for split in get_args(Split)}
    assert sum(map(len, parts.values())) == len(set().union(*parts.values())) == len(list(series.iterdir()))
    shown = {split: part_numbers(paths) for split, paths in parts.items()}
    assert not shown["train"] & shown["val"] | shown["train"] & shown["test"] | shown["val"] & shown["test"]
    held_out = round(0.2 * len(list(series.iterdir())))
    assert held_out - 3 <= len(parts["val"]) <= held_out
    assert held_out - 3 <= len(parts["test"]) <= held_out
    assert list(parts["train"]) == sorted(parts["train"], key=lambda path: path.name)
    by_image = {split: find_split(series, split, seed, 0.2).paths for split in get_args(Split)}
    assert part_numbers(by_image["train"]) & part_numbers(by_image["val"]), "without it, they do not"


def test_a_part_larger_than_the_share_is_trained_on(tmp_path, photo):
    for part, count in (("a", 20), ("b", 2), ("c", 3)):
        for shot in range(count):
            Image.fromarray(photo[:9, :9]).save(tmp_path / f"{part}_{shot}.png")
    for seed in range(3):
        parts = {split: find_split(tmp_path, split, seed, 0.04, "", "^(.)").paths for split in get_args(Split)}
        assert {path.name[0] for path in parts["train"]} == {"a"}
        assert [len(parts["val"]), len(parts["test"])] == [2, 3], "the smallest, where none fits"


def test_grouping_that_leaves_nothing_to_divide_is_said(series):
    with pytest.raises(UserError, match=r"--data.group_by 5000 finds 1 part\(s\) in .*: too few to split"):
        find_split(series, "val", 0, 0.1, "", 5000)


def test_a_folder_that_is_divided_already_is_not_grouped(photos):
    with pytest.raises(UserError, match=r"is divided already, into train/ and others: leave out --data.group_by"):
        find_split(photos, "val", 0, 0.1, "", 5)
