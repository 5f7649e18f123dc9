import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader

from img2img.data import FolderPairs
from img2img.data.pairs import collate
from img2img.errors import UserError


@pytest.fixture
def inputs(tmp_path, photos):
    """The negatives of the small photographs, with other extensions."""
    root = tmp_path / "negatives"
    for i, source in enumerate(sorted(photos.rglob("*.png"))):
        target = (root / source.relative_to(photos)).with_suffix((".TIF", ".bmp", ".PNG")[i % 3])
        target.parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(target), 255 - cv2.imread(str(source)))
    return root


def made(inputs: Path, targets: Path, stage: str = "fit", **kwargs) -> FolderPairs:
    data = FolderPairs(str(inputs), str(targets), **{"crop_size": 24, "seed": 0, **kwargs})
    if stage == "fit":
        data.prepare_data()
    data.setup(stage)
    return data


@pytest.mark.parametrize("cache_gb", [1, 0])
def test_input_and_target_are_cut_and_turned_alike(inputs, photos, cache_gb):
    pairs = made(inputs, photos, cache_gb=cache_gb).training_pairs()
    loader = DataLoader(pairs, batch_size=4, sampler=range(16), num_workers=2, collate_fn=collate)
    for batch in loader:
        assert batch["input"].shape == batch["target"].shape == (4, 3, 24, 24)
        torch.testing.assert_close(batch["input"], 1 - batch["target"], rtol=0, atol=1e-6)
        assert not batch["mask"].any()
        assert batch["mask"].shape == (4, 1, 24, 24)


def test_a_sample_is_a_function_of_seed_and_number(inputs, photos):
    first, again, other = (made(inputs, photos, seed=seed).training_pairs() for seed in (0, 0, 1))
    assert all(torch.equal(first[n]["input"], again[n]["input"]) for n in (7, 0, 7))
    assert any(not torch.equal(first[n]["input"], other[n]["input"]) for n in range(3))


def test_evaluation_is_whole_and_named_pairs(inputs, photos):
    data = made(inputs, photos, "test")
    pairs = data._evaluation_pairs(data._sources["test"], None)
    assert len(pairs) == 2
    sample = pairs[(1, True)]
    assert sample["corruption"] == "pairs"
    assert sample["input"].shape == (48, 64, 3)
    torch.testing.assert_close(sample["input"], 1 - sample["target"], rtol=0, atol=1e-6)
    cropped = data._evaluation_pairs(data._sources["test"], 16)[(1, True)]
    assert torch.equal(cropped["input"], sample["input"][16:32, 24:40])


def test_one_folder_of_pairs_is_divided_by_its_targets(inputs, photos, tmp_path):
    for root in (inputs, photos):
        for file in sorted(root.rglob("*.*")):
            shutil.move(file, root / file.name)
        for split in ("train", "val", "test"):
            (root / split).rmdir()
    data = made(inputs, photos)
    assert {split: len(source.paths) for split, source in data._sources.items()} == {"train": 8, "val": 1}
    pairs = data.training_pairs()
    assert all(Path(pairs[n]["path"]).parent == photos for n in range(8))
    torch.testing.assert_close(pairs[0]["input"], 1 - pairs[0]["target"], rtol=0, atol=1e-6)


def test_gray_inputs_for_colour_targets(inputs, photos):
    sample = made(inputs, photos, input_channels=1).training_pairs()[0]
    assert sample["input"].shape == (24, 24, 1)
    assert sample["target"].shape == (24, 24, 3)
    luma = (1 - sample["target"]) @ torch.tensor([0.299, 0.587, 0.114])
    torch.testing.assert_close(sample["input"][..., 0], luma, rtol=0, atol=0.003)


def test_depths_may_differ(inputs, photos):
    for path in (photos / "train").glob("*.png"):
        cv2.imwrite(str(path), cv2.imread(str(path)).astype(np.uint16) * 257)
    sample = made(inputs, photos).training_pairs()[0]
    torch.testing.assert_close(sample["input"], 1 - sample["target"], rtol=0, atol=1e-6)


def test_files_without_partner_are_named_for_both_folders(inputs, photos):
    gone = sorted((inputs / "train").iterdir())[0]
    gone.unlink()
    (inputs / "train" / "more").mkdir()
    shutil.copy(sorted((inputs / "val").iterdir())[0], inputs / "train" / "more" / "extra.png")
    with pytest.raises(UserError) as caught:
        made(inputs, photos)
    message = str(caught.value)
    assert "\n" not in message
    assert f"{photos / 'train'} lacks the partners of 1 file(s) of {inputs / 'train'}: more/extra.png" in message
    assert f"{inputs / 'train'} lacks the partners of 1 file(s) of {photos / 'train'}: {gone.stem}.png" in message
    made(inputs, photos, "test")  # a split that is not in use does not matter


def test_a_name_with_several_files_is_an_error_that_names_them(inputs, photos):
    target = sorted((photos / "train").iterdir())[0]
    for suffix in (".jpg", ".tif"):
        shutil.copy(target, inputs / "train" / (target.stem + suffix))
    (inputs / "train" / f"{target.stem}.PNG").unlink()
    with pytest.raises(
        UserError, match=rf"{target.name} could be the target of {target.stem}.jpg or {target.stem}.tif"
    ):
        made(inputs, photos)
    shutil.copy(target, inputs / "train" / target.name)  # now one has the very name, and the two have no target
    with pytest.raises(UserError, match=rf"lacks the partners of 2 file\(s\).*{target.stem}.jpg, {target.stem}.tif"):
        made(inputs, photos)


def test_sizes_that_differ_are_named_before_training(inputs, photos):
    target = sorted((photos / "train").iterdir())[0]
    Image.open(target).resize((60, 48)).save(target)
    with pytest.raises(UserError, match=rf"1 pair\(s\) of different size: .*PNG is 64×48, .*{target.name} is 60×48"):
        made(inputs, photos)


@pytest.mark.parametrize("side", ["input", "target"])
def test_a_pair_of_which_one_is_unreadable_is_skipped(inputs, photos, side):
    broken = sorted(((inputs if side == "input" else photos) / "train").iterdir())[1]
    broken.write_bytes(b"\x89PNG\r\n\x1a\n and then nothing")
    with pytest.warns(UserWarning, match=rf"skipped 1 unreadable file\(s\): .*{broken.name}"):
        data = made(inputs, photos)
    assert len(data._sources["train"].paths) == 5
    pairs = data.training_pairs()
    assert all(Path(pairs[n]["path"]).stem != broken.stem for n in range(10))


def test_folders_that_lack_are_named(inputs, photos):
    with pytest.raises(FileNotFoundError, match=r"nowhere does not exist; give --data\.input_root"):
        made(Path("nowhere"), photos)
    with pytest.raises(FileNotFoundError, match=r"nowhere does not exist; give --data\.target_root"):
        made(inputs, Path("nowhere"))
    shutil.rmtree(inputs / "val")
    with pytest.raises(UserError, match=r"has a folder val/ but .*negatives has none"):
        made(inputs, photos)


def test_the_starter_pairs_are_there():
    data = FolderPairs()
    data.setup("fit")
    sample = data.training_pairs()[0]
    error = sample["input"] - sample["target"]
    assert 0.005 < error.std() < 0.2
    assert len(data._sources["train"].paths) == 18
