import warnings
from pathlib import Path

import albumentations
import cv2
import numpy as np
import pytest
import torch
from lightning.pytorch import Trainer
from PIL import Image
from torch.utils.data import DataLoader

from img2img.corruptions import GaussianNoise
from img2img.data import CorruptedPairs
from img2img.data.cache import DecodedCache
from img2img.data.folders import find_split
from img2img.data.pairs import EvaluationPairs, TrainingPairs, collate
from img2img.errors import UserError


def training_pairs(root: Path, seed: int = 0, corruption=None) -> TrainingPairs:
    data = CorruptedPairs(str(root), crop_size=24, corruption=corruption)
    return TrainingPairs(find_split(root, "train", 0, 0.1), data.cache, data.geometry, data.corruption, seed)


def test_a_sample_is_a_function_of_seed_and_number(photos):
    first, again, other = training_pairs(photos), training_pairs(photos), training_pairs(photos, seed=1)
    for n in (5, 0, 17, 5):
        assert torch.equal(first[n]["input"], again[n]["input"])
        assert first[n]["path"] == again[n]["path"]
    assert not torch.equal(first[5]["input"], other[5]["input"])


def test_no_noise_comes_twice_over_workers_and_epochs(photos):
    pairs = training_pairs(photos, corruption=[GaussianNoise(25)])
    loader = DataLoader(pairs, batch_size=4, sampler=range(48), num_workers=2, collate_fn=collate)
    noise = torch.cat([(b["input"] - b["target"]).flatten(1) for b in loader])  # eight passes over six images
    correlation = torch.corrcoef(noise) - torch.eye(len(noise))
    assert correlation.abs().max() < 0.2
    assert noise.std() * 255 == pytest.approx(25, rel=0.02)


def test_input_and_target_share_their_geometry(photos):
    pairs = training_pairs(photos, corruption=[GaussianNoise(0)])
    for n in range(12):
        assert torch.equal(pairs[n]["input"], pairs[n]["target"])


def test_targets_are_pieces_of_the_photographs(photos):
    data = CorruptedPairs(str(photos), crop_size=24, geometry=[], corruption=[])
    pairs = TrainingPairs(find_split(photos, "train", 0, 0.1), data.cache, data.geometry, [], 0)
    sample = pairs[3]
    photo = np.array(Image.open(sample["path"]))
    piece = (sample["target"].numpy() * 255).round().astype(np.uint8)
    match = cv2.matchTemplate(photo, piece, cv2.TM_SQDIFF)
    assert match.min() < 1


def test_small_images_are_padded_to_the_crop(photos):
    Image.new("RGB", (5, 7), (10, 20, 30)).save(photos / "train" / "small.png")
    pairs = training_pairs(photos)
    assert all(pairs[n]["target"].shape == (24, 24, 3) for n in range(7))


def test_batches_lie_channels_last(photos):
    pairs = training_pairs(photos)
    batch = collate([pairs[0], pairs[1]])
    assert batch["input"].shape == (2, 3, 24, 24)
    assert batch["input"].is_contiguous(memory_format=torch.channels_last)
    assert batch["n"].tolist() == [0, 1]


def test_evaluation_noise_depends_on_seed_and_image_alone(photos):
    source = find_split(photos, "val", 0, 0.1)
    cache = DecodedCache(3, 0)
    names = {"sigma15": [GaussianNoise(15)], "sigma50": [GaussianNoise(50)]}
    pairs, alone = (
        EvaluationPairs(source, cache, names, 0),
        EvaluationPairs(source, cache, {"x": [GaussianNoise(50)]}, 0),
    )
    assert len(pairs) == 4
    assert pairs[(3, True)]["corruption"] == "sigma50"
    assert torch.equal(pairs[(3, True)]["input"], alone[(1, False)]["input"])
    other = EvaluationPairs(source, cache, names, 1)
    assert not torch.equal(pairs[(3, True)]["input"], other[(3, True)]["input"])


def test_a_corrupt_file_is_named_once_and_skipped(photos):
    (photos / "train" / "broken.jpg").write_bytes(b"\xff\xd8\xff\xe0 cut off")
    data = CorruptedPairs(str(photos))
    with pytest.warns(UserWarning, match=r"skipped 1 unreadable file.*broken\.jpg") as caught:
        data.setup("fit")
    assert len(caught) == 1
    assert len(data._sources["train"].paths) == 6


def test_a_folder_of_unreadable_files_is_an_error(tmp_path):
    for i in range(4):
        (tmp_path / f"{i}.png").write_bytes(b"")
    with pytest.warns(UserWarning, match="skipped"), pytest.raises(FileNotFoundError, match="can be read"):
        CorruptedPairs(str(tmp_path)).setup("fit")


def test_many_validation_images_are_thinned_evenly(photos, tmp_path):
    data = CorruptedPairs(str(photos), val_dir=str(photos / "train"), val_images=3)
    assert len(data._find("val").paths) == 6  # a folder named by the user is taken whole
    data = CorruptedPairs(str(photos), val_images=1)
    assert len(data._find("val").paths) == 1


def test_transforms_after_unclipped_noise_are_warned_of():
    with pytest.warns(UserWarning, match="GaussianNoise adds unclipped noise but is not last"):
        CorruptedPairs(corruption=[GaussianNoise(25), albumentations.GaussianBlur(p=1)])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        CorruptedPairs(corruption=[albumentations.GaussianBlur(p=1), GaussianNoise(25)])


def test_a_corruption_that_changes_the_size_is_refused(photos):
    pairs = training_pairs(photos, corruption=[albumentations.Resize(8, 8)])
    with pytest.raises(UserError, match="turned a 24×24 image into 8×8"):
        pairs[0]


@pytest.mark.parametrize("kind", ["gray", "rgba", "sixteen"])
def test_gray_rgba_and_16_bit_photographs(photos, kind):
    for path in (photos / "train").glob("*.png"):
        image = np.array(Image.open(path))
        if kind == "gray":
            Image.fromarray(image[..., 0]).save(path)
        elif kind == "rgba":
            Image.fromarray(np.concatenate([image, image[..., :1]], 2)).save(path)
        else:
            cv2.imwrite(str(path), image[..., ::-1].astype(np.uint16) * 257)
    target = training_pairs(photos, corruption=[])[0]["target"]
    assert target.shape == (24, 24, 3)
    assert 0 <= target.min() <= target.max() <= 1
    assert target.max() > 0.1
    if kind == "gray":
        assert torch.equal(target[..., 0], target[..., 1])


def test_loaders_without_a_trainer_say_so(photos):
    data = CorruptedPairs(str(photos))
    data.setup("fit")
    with pytest.raises(RuntimeError, match="for a Trainer"):
        data.train_dataloader()


def test_an_epoch_covers_the_run_or_the_images(photos):
    data = CorruptedPairs(str(photos), crop_size=16, batch_size=2)
    data.setup("fit")
    data.trainer = Trainer(max_steps=5, accumulate_grad_batches=3, accelerator="cpu", logger=False)
    assert len(data.train_dataloader()) == 15
    data.trainer = Trainer(max_epochs=1, accelerator="cpu", logger=False)
    assert len(data.train_dataloader()) == 6 * 64 * 48 // 16**2 // 2
