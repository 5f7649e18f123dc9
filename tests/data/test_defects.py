"""Real images with defects among the training samples."""

from pathlib import Path

import albumentations
import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader

from img2img.callbacks.leaks import recurring_images
from img2img.data import CorruptedPairs, WholeImages
from img2img.data.pairs import collate
from img2img.errors import UserError

SQUARE = 240
"""Brightness of the defects; nothing else is brighter than 200."""


@pytest.fixture
def root(tmp_path) -> Path:
    """train/ of six gray images and val/ of two."""
    draw = np.random.default_rng(0)
    for i in range(8):
        path = tmp_path / "good" / ("train" if i < 6 else "val") / f"{i}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(draw.integers(0, 200, (60, 70), np.uint8)).save(path)
    return tmp_path / "good"


@pytest.fixture
def defects(tmp_path) -> Path:
    """spot/ of three images with a bright square, 3×3, which spot_masks/ tells; one is smaller than a crop."""
    draw = np.random.default_rng(1)
    for name in ("spot", "spot_masks"):
        (tmp_path / "defects" / name).mkdir(parents=True)
    for i, size in enumerate([(90, 200), (120, 80), (20, 22)]):
        image, mask = draw.integers(0, 200, size, np.uint8), np.zeros(size, np.uint8)
        image[11:14, 13:16], mask[11:14, 13:16] = SQUARE, 255
        Image.fromarray(image).save(tmp_path / "defects/spot" / f"{i}.jpg.png")
        Image.fromarray(mask).save(tmp_path / "defects/spot_masks" / f"{i}.jpg.png")
    return tmp_path / "defects"


def data_of(root: Path, **options) -> CorruptedPairs:
    given = {"crop_size": 32, "batch_size": 4, "channels": 1, "seed": 0, "corruption": []} | options
    data = CorruptedPairs(str(root), **given)
    data.prepare_data(), data.setup("fit")
    return data


def test_crops_show_the_defect_where_the_mask_says_and_the_target_is_the_image(root, defects):
    geometry = [albumentations.ToFloat(), albumentations.D4(p=1.0), albumentations.RandomBrightnessContrast(p=1.0)]
    pairs = data_of(root, defects=str(defects), geometry=geometry).training_pairs()
    places = set()
    for sample in filter(lambda sample: sample["real"], map(pairs.__getitem__, range(60))):
        assert sample["path"].startswith(str(defects / "spot"))
        mask = sample["mask"][..., 0] == 1
        assert mask.any()
        assert sample["input"].shape == (32, 32, 1)
        assert sample["mask"].unique().tolist() == [0, 1]
        brightest = sample["input"][..., 0] == sample["input"].max()
        assert torch.equal(brightest & mask, mask), "marked is what is bright, after flips and changes of light"
        assert torch.equal(sample["input"], sample["target"])
        places.add(tuple(mask.nonzero()[0].tolist()))
    assert len(places) > 5, "the defect lies anywhere in the crop"


def test_defects_have_their_share_and_each_comes_once_per_pass(root, defects):
    pairs = data_of(root, defects=str(defects), defect_share=0.3).training_pairs()
    samples = [pairs[n] for n in range(1000)]
    real = [sample["path"] for sample in samples if sample["real"]]
    assert len(real) == 300
    assert all(len(set(real[i : i + 3])) == 3 for i in range(0, 300, 3))
    normal = [sample["path"] for sample in samples if not sample["real"]]
    assert all(len(set(normal[i : i + 6])) == 6 for i in range(0, 600, 6))
    assert all(Path(path).is_relative_to(root) for path in normal)


def test_a_sample_depends_on_seed_and_number_alone(root, defects):
    one, other = (data_of(root, defects=str(defects), defect_share=0.5) for _ in range(2))
    backwards = {n: other.training_pairs()[n] for n in reversed(range(24))}
    loader = DataLoader(one.training_pairs(), 4, sampler=range(24), num_workers=2, collate_fn=collate)
    for batch in loader:
        for i, n in enumerate(batch["n"].tolist()):
            alone = backwards[n]
            assert (batch["path"][i], bool(batch["real"][i])) == (alone["path"], alone["real"])
            for key in ("input", "target", "mask"):
                assert torch.equal(batch[key][i].permute(1, 2, 0), alone[key])
    again = data_of(root, defects=str(defects), defect_share=0.5, seed=1).training_pairs()
    assert any(again[n]["path"] != backwards[n]["path"] for n in range(24))


def test_without_defects_the_stream_is_as_it_was(root):
    assert "real" not in data_of(root).training_pairs()[0]


def test_what_cannot_be_used_is_named(root, defects):
    Image.new("L", (9, 9)).save(defects / "spot" / "3.png")
    Image.new("L", (9, 8), 255).save(defects / "spot_masks" / "3.png")
    Image.new("L", (9, 9)).save(defects / "spot" / "4.png")
    Image.new("L", (9, 9)).save(defects / "spot_masks" / "4.png")
    (defects / "spot" / "5.png").write_bytes(b"no image")
    Image.new("L", (9, 9)).save(defects / "spot_masks" / "5.png")
    Image.new("L", (9, 9)).save(defects / "spot" / "6.png")
    with pytest.warns(UserWarning, match="left out") as caught:
        data = data_of(root, defects=str(defects))
    said = " | ".join(str(warning.message) for warning in caught)
    assert said.count("left out 1 image(s)") == said.count("left out 3 defect(s)") == 1
    assert "without a mask" in said
    assert "3.png has another size than its image: 9×8 instead of 9×9" in said
    assert "4.png marks nothing" in said
    assert "5.png" in said
    assert {Path(data.training_pairs()[n]["path"]).name for n in range(60)} >= {"0.jpg.png", "1.jpg.png", "2.jpg.png"}


def test_wrong_folders_and_shares_are_refused(root, defects, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"--data.defects .*none is no folder"):
        data_of(root, defects=str(tmp_path / "none"))
    with pytest.raises(UserError, match=r"no image has a mask; give a folder with KIND/ and, beside it, KIND_masks/"):
        data_of(root, defects=str(defects / "spot"))
    for share in (0, 1):
        with pytest.raises(UserError, match="defect_share must be between 0 and 1"):
            data_of(root, defects=str(defects), defect_share=share)
    with pytest.raises(UserError, match="defects and fixed_corruption do not go together"):
        data_of(root, defects=str(defects), fixed_corruption=[albumentations.GaussianBlur()])
    with pytest.raises(UserError, match="WholeImages takes no defects"):
        WholeImages(root=str(root), defects=str(defects))
    for path in (defects / "spot_masks").iterdir():
        path.write_bytes(b"no image")
    with pytest.warns(UserWarning, match="left out 3"), pytest.raises(UserError, match="none of 3 image"):
        data_of(root, defects=str(defects))


def test_trained_images_are_those_with_defects_and_the_others(root, defects):
    data = data_of(root, defects=str(defects))
    few = [path.name for path in data.trained_images(5).paths]
    assert few == ["0.jpg.png", "1.jpg.png", "2.jpg.png", "0.png", "3.png"]
    assert len(data.trained_images(100).paths) == 9
    assert len(data_of(root).trained_images(100).paths) == 6


def test_a_held_out_image_that_recurs_among_the_defects_is_named(root, defects):
    (root / "val" / "seen.png").write_bytes((defects / "spot" / "1.jpg.png").read_bytes())
    assert recurring_images(data_of(root)) == []
    (line,) = recurring_images(data_of(root, defects=str(defects)))
    assert "val/seen.png (like spot/1.jpg.png)" in line
