"""Corruptions that take from another image of the set."""

from pathlib import Path

import albumentations
import numpy as np
import pytest
import torch
from albumentations import ImageOnlyTransform
from PIL import Image
from torch.utils.data import DataLoader

from img2img.corruptions import GaussianNoise
from img2img.data import CorruptedPairs
from img2img.data.pairs import collate
from img2img.errors import UserError

COLOURS = [(i * 20, 250 - i * 20, 128) for i in range(8)]


class Becomes(ImageOnlyTransform):
    """Replaces the image by the other one."""

    needs_other = True

    def __init__(self) -> None:
        super().__init__(p=1.0)

    def get_params_dependent_on_data(self, params, data):
        return {"other": data["other"]}

    def apply(self, img, other, **params):
        assert other.shape == img.shape
        assert other.dtype == np.float32
        return other.copy()


@pytest.fixture
def coloured(tmp_path) -> Path:
    """train/ of six images and val/ of two, each of one colour with its own brightness in every column."""
    for i, colour in enumerate(COLOURS):
        path = tmp_path / "coloured" / ("train" if i < 6 else "val") / f"{i}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = np.tile(np.array(colour, np.uint8), (40 + 3 * i, 60 - 5 * i, 1))
        pixels[:, :, 2] = np.arange(pixels.shape[1])
        Image.fromarray(pixels).save(path)
    return tmp_path / "coloured"


def number_of(pixels: torch.Tensor) -> int:
    """Which of the images a crop is cut from."""
    assert len({tuple(pixel) for pixel in pixels[..., :2].reshape(-1, 2).tolist()}) == 1
    return round(float(pixels[0, 0, 0]) * 255 / 20)


def data_of(root: Path, **options) -> CorruptedPairs:
    data = CorruptedPairs(str(root), crop_size=24, batch_size=4, seed=0, **({"corruption": [Becomes()]} | options))
    data.setup("fit")
    return data


def test_training_gets_a_crop_of_another_training_image(coloured):
    pairs = data_of(coloured).training_pairs()
    found = [(number_of(pairs[n]["target"]), number_of(pairs[n]["input"])) for n in range(60)]
    assert all(own != other for own, other in found)
    assert {other for _, other in found} == set(range(6)), "of the same split, and any of them"
    places = {float(pairs[n]["input"].min(dim=0).values[0, 2]) for n in range(60)}
    assert len(places) > 10, "cut anywhere"


def test_the_other_image_is_a_function_of_seed_and_number_whatever_the_workers(coloured):
    alone = data_of(coloured).training_pairs()
    loader = DataLoader(data_of(coloured).training_pairs(), 4, sampler=range(8, 24), num_workers=2, collate_fn=collate)
    shared = torch.cat([batch["input"] for batch in loader]).permute(0, 2, 3, 1)
    for n in (23, 8, 15):
        assert torch.equal(shared[n - 8], alone[n]["input"])
    other_seed = CorruptedPairs(str(coloured), crop_size=24, corruption=[Becomes()], seed=1)
    other_seed.setup("fit")
    others = [number_of(other_seed.training_pairs()[n]["input"]) for n in range(8, 24)]
    assert others != [number_of(shared[n]) for n in range(16)]


def test_other_corruptions_draw_what_they_drew_before(coloured):
    noise = data_of(coloured, corruption=[GaussianNoise(25)]).training_pairs()
    either = albumentations.OneOf([albumentations.Sequential([Becomes()], p=0.0), GaussianNoise(25)], p=1.0)
    asked = data_of(coloured, corruption=[either]).training_pairs()
    assert not noise._needs_other
    assert asked._needs_other, "also within compositions"
    assert torch.equal(noise[5]["target"], asked[5]["target"]), "the other image is drawn after the crop"
    again = data_of(coloured, corruption=[GaussianNoise(25)], evaluation={"other": [Becomes()]}).training_pairs()
    assert torch.equal(noise[5]["input"], again[5]["input"])


def test_validation_gets_one_of_the_same_split_as_large_as_its_own(coloured):
    pairs = data_of(coloured).val_dataloader().dataset
    assert [number_of(pairs[(n, True)]["input"]) for n in range(2)] == [7, 6]
    assert torch.equal(pairs[(0, True)]["input"], data_of(coloured).val_dataloader().dataset[(0, True)]["input"])
    whole = data_of(coloured, val_crop_size=None).val_dataloader().dataset[(0, True)]
    assert whole["target"].shape == (58, 30, 3)
    assert whole["input"].shape == (58, 30, 3), "from an image 61 pixels high and 25 wide"


def test_the_only_image_is_its_own_other(coloured):
    for path in sorted((coloured / "train").iterdir())[1:]:
        path.unlink()
    assert number_of(data_of(coloured).training_pairs()[0]["input"]) == 0


def test_an_image_that_is_damaged_for_ever_has_no_other(coloured):
    with pytest.raises(UserError, match="fixed_corruption damages each image by itself"):
        CorruptedPairs(str(coloured), fixed_corruption=[Becomes()])


class Fades(albumentations.DualTransform):
    """Darkens the image by a half, and says so in the mask."""

    _targets = (albumentations.core.type_definitions.Targets.IMAGE, albumentations.core.type_definitions.Targets.MASK)

    def apply(self, img, **params):
        return img * np.float32(0.5)

    def apply_to_mask(self, mask, **params):
        return mask + np.float32(0.5)


def test_a_mask_may_say_how_far_a_pixel_is_replaced(coloured):
    assert (data_of(coloured, corruption=[Fades(p=1.0)]).training_pairs()[0]["mask"] == 0.5).all()
    twice = data_of(coloured, corruption=[Fades(p=1.0), Fades(p=1.0), Fades(p=1.0)]).training_pairs()[0]
    assert (twice["mask"] == 1).all()


def test_clean_images_are_whole_and_more_than_a_validation_has(coloured):
    data = data_of(coloured, val_dir=None, val_images=1)
    assert len(data._sources["val"].paths) == 1
    images = data.clean_images("val", 100)
    assert [path.name for path in images.paths] == ["6.png", "7.png"]
    assert images.batch_size == 1, "they differ in size"
    assert [path.name for path in data.clean_images("train", 3).paths] == ["0.png", "2.png", "4.png"]
    (coloured / "val" / "8.png").write_bytes(b"no image")
    assert [path.name for path in data.clean_images("val", 100).paths] == ["6.png", "7.png"]
