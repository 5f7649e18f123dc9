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

from img2img.corruptions import Clip, GaussianNoise, RandomPixels
from img2img.data import CorruptedPairs, PairedData
from img2img.data.cache import DecodedCache
from img2img.data.pairs import EvaluationPairs, TrainingPairs, apply, collate, compose
from img2img.data.splits import find_split
from img2img.data.stream import draws_of_sample
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


def test_workers_start_after_opencv_has_used_its_threads(photos):
    cv2.setNumThreads(2)
    cv2.GaussianBlur(np.zeros((2000, 2000, 3), np.float32), (31, 31), 5)  # large enough for its pool of threads
    loader = DataLoader(
        training_pairs(photos), batch_size=4, sampler=range(8), num_workers=2, collate_fn=collate, timeout=60
    )
    assert len(list(loader)) == 2


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
    with pytest.warns(UserWarning, match="GaussianNoise adds unclipped noise, but .* after it clips"):
        CorruptedPairs(corruption=[GaussianNoise(25), albumentations.GaussianBlur(p=1)])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        CorruptedPairs(corruption=[albumentations.GaussianBlur(p=1), GaussianNoise(25)])
        CorruptedPairs(corruption=[GaussianNoise(25), Clip(), albumentations.GaussianBlur(p=1)])
        CorruptedPairs(corruption=[GaussianNoise(25), RandomPixels(), albumentations.CoarseDropout(fill_mask=1)])


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


def test_loaders_work_without_a_trainer(photos):
    data = CorruptedPairs(str(photos), crop_size=16, batch_size=4)
    data.setup("fit")
    batch = next(iter(data.train_dataloader()))
    assert batch["n"].tolist() == [0, 1, 2, 3]
    assert torch.equal(batch["input"][2], data.training_pairs()[2]["input"].permute(2, 0, 1))
    assert len(data.train_dataloader()) == 6 * 64 * 48 // 16**2 // 4
    assert len(list(data.val_dataloader())) == 2 * 3, "each image with each corruption"


def test_an_epoch_covers_the_run_or_the_images(photos):
    data = CorruptedPairs(str(photos), crop_size=16, batch_size=2)
    data.setup("fit")
    data.trainer = Trainer(max_steps=5, accumulate_grad_batches=3, accelerator="cpu", logger=False)
    assert len(data.train_dataloader()) == 15
    data.trainer = Trainer(max_epochs=1, accelerator="cpu", logger=False)
    assert len(data.train_dataloader()) == 6 * 64 * 48 // 16**2 // 2


HOLES = albumentations.CoarseDropout(fill=0, fill_mask=1, num_holes_range=(2, 2), p=1)


def test_holes_are_marked_and_nothing_else_is(photos):
    pairs = training_pairs(photos, corruption=[HOLES])
    batch = collate([pairs[0], pairs[1]])
    assert batch["mask"].shape == (2, 1, 24, 24)
    assert batch["mask"].dtype == torch.float32
    assert set(batch["mask"].unique().tolist()) == {0, 1}
    hole = batch["mask"].expand_as(batch["input"]) == 1
    assert (batch["input"][hole] == 0).all()
    assert torch.equal(batch["input"][~hole], batch["target"][~hole])
    assert not collate([training_pairs(photos)[0]])["mask"].any()


def test_evaluation_marks_holes_too(photos):
    names = {"holes": [HOLES], "noise": [GaussianNoise(25)]}
    pairs = EvaluationPairs(find_split(photos, "val", 0, 0.1), DecodedCache(3, 0), names, 0)
    holes, noise = pairs[(0, True)], pairs[(1, True)]
    assert holes["mask"].shape == (48, 64, 1)
    assert holes["mask"].any()
    assert not noise["mask"].any()


def test_the_mask_changes_no_drawn_number(photos):
    corruption = [albumentations.OneOf([GaussianNoise(25), albumentations.GaussianBlur(p=1)], p=1), GaussianNoise()]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        pairs = training_pairs(photos, seed=3, corruption=corruption)
    for n in range(8):
        draws, path = draws_of_sample(3, n), Path(pairs[n]["path"])
        target = apply(pairs.geometry, np.array(Image.open(path)), draws).astype(np.float32) / np.float32(255)
        damaged = apply(compose(corruption), target, draws)
        np.testing.assert_array_equal(pairs[n]["target"].numpy(), target)
        np.testing.assert_array_equal(pairs[n]["input"].numpy(), damaged)


def fixed_pairs(root: Path, **kwargs) -> CorruptedPairs:
    options = {"crop_size": 24, "corruption": [], "fixed_corruption": [GaussianNoise(25)], "seed": 0, **kwargs}
    data = CorruptedPairs(str(root), **options)
    data.prepare_data()
    data.setup("fit")
    return data


def place(piece: np.ndarray, whole: np.ndarray) -> bool:
    """Whether a piece lies somewhere in the whole, to the bit."""
    height, width = piece.shape[:2]
    corners = np.argwhere(whole[: -height + 1 or None, : -width + 1 or None, 0] == piece[0, 0, 0])
    return any(np.array_equal(whole[y : y + height, x : x + width], piece) for y, x in corners)


@pytest.mark.parametrize("cache_gb", [1, 0])
def test_fixed_noise_stays_with_its_pixel_and_leaves_none_clean(photos, cache_gb):
    data = fixed_pairs(photos, geometry=[], cache_gb=cache_gb)
    pairs = data.training_pairs()
    for n in range(18):
        path = Path(pairs[n]["path"])
        noisy, clean = pairs.cache.open(path), np.array(Image.open(path)) / 255
        assert noisy.dtype == np.float32
        assert noisy.min() < 0 or noisy.max() > 1  # unclipped
        noise = (noisy - clean) * 255
        assert (np.abs(noise) > 0).all()
        assert noise.std() == pytest.approx(25, rel=0.05)
        assert place(pairs[n]["target"].numpy(), noisy)
        assert torch.equal(pairs[n]["input"], pairs[n]["target"])


def test_corruption_comes_upon_fixed_noise_anew(photos):
    data = fixed_pairs(photos, crop_size=64, geometry=[], corruption=[GaussianNoise(5)])
    pairs = data.training_pairs()
    first, again = pairs[0], next(pairs[n] for n in range(6, 12) if pairs[n]["path"] == pairs[0]["path"])
    assert torch.equal(first["target"], again["target"])  # a whole photograph, padded: no other crop is there
    assert not torch.equal(first["input"], again["input"])
    assert (first["input"] - first["target"]).std() * 255 == pytest.approx(5, rel=0.1)


def test_fixed_noise_is_the_same_with_and_without_cache_workers_and_another_batch(photos):
    cached, computed = fixed_pairs(photos).training_pairs(), fixed_pairs(photos, cache_gb=0).training_pairs()
    here = [cached[n]["target"] for n in range(8)]
    for pairs in (cached, computed):
        loader = DataLoader(pairs, batch_size=2, sampler=range(8), num_workers=2, collate_fn=collate)
        seen = torch.cat([batch["target"] for batch in loader])
        assert torch.equal(seen, torch.stack(here).permute(0, 3, 1, 2))


def test_another_seed_strength_or_image_has_another_fixed_noise(photos):
    def noises(**kwargs):
        pairs = fixed_pairs(photos, **kwargs).training_pairs()
        return [pairs.cache.open(path) - np.array(Image.open(path)) / 255 for path in pairs.source.paths]

    first, same, seed = noises(), noises(), noises(seed=1)
    weak = noises(fixed_corruption=[GaussianNoise(5)])
    for i in range(6):
        np.testing.assert_array_equal(first[i], same[i])
        assert not np.allclose(first[i], seed[i], atol=1e-2)
        np.testing.assert_allclose(first[i], 5 * weak[i], atol=1e-5)  # the cache does not take one for the other
    assert abs(np.corrcoef(first[0].ravel(), first[1].ravel())[0, 1]) < 0.05


def test_validation_and_test_stay_clean_beside_fixed_noise(photos):
    data = fixed_pairs(photos, evaluation={"none": []})
    data.setup("test")
    for split in ("val", "test"):
        pairs = data._evaluation_pairs(data._sources[split], None)
        clean = np.array(Image.open(pairs[(0, True)]["path"])).astype(np.float32) / np.float32(255)
        np.testing.assert_array_equal(pairs[(0, True)]["target"].numpy(), clean)


def test_the_abstract_class_is_not_offered_as_data():
    with pytest.raises(TypeError, match="abstract"):
        PairedData()
