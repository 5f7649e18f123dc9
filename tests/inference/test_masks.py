import shutil

import cv2
import numpy as np
import pytest
import torch
from PIL import Image

from img2img.errors import UserError
from img2img.inference.jobs import list_jobs
from img2img.inference.masks import mask_finder
from img2img.inference.tiles import tile_batches
from img2img.tiling.geometry import Cut, tiling_by_side

HOLE = np.s_[10:20, 30:44]


@pytest.fixture
def images(photos):
    """The two small photographs of val/, 64×48."""
    return photos / "val"


@pytest.fixture
def masks(tmp_path, images):
    """Their masks, with other extensions: white where the hole is."""
    folder = tmp_path / "masks"
    folder.mkdir()
    white = np.zeros((48, 64), np.uint8)
    white[HOLE] = 255
    for i, image in enumerate(sorted(images.iterdir())):
        Image.fromarray(white).save((folder / image.name).with_suffix((".bmp", ".JPG")[i]), quality=95)
    return folder


def holes(item) -> None:
    """Checks that an item's mask is `HOLE`."""
    assert item["mask"].shape == (1, 1, *item["input"].shape[2:])
    assert item["mask"].dtype == torch.float32
    expected = torch.zeros_like(item["mask"][0, 0])
    expected[HOLE] = 1
    assert torch.equal(item["mask"][0, 0], expected)


def items(root, mask, side=1000):
    """Returns each image with its mask, assembled from tiles, or its problem."""
    finder = None if mask is None else mask_finder(mask, [root])
    found = []
    for job in list_jobs([root], root.parent / "nowhere"):
        item = {"path": job.source}
        batches = tile_batches([[job]], lambda h, suffix: tiling_by_side(h.height, h.width, Cut(3), side), finder)
        for batch in batches:
            if batch["tiles"].problem:
                item = {"path": job.source, "problem": batch["tiles"].problem}
                break
            tile = batch["tiles"].tiles[0]
            item["alpha"] = tile.alpha
            down, across = tile.tiling.rows[tile.row], tile.tiling.columns[tile.column]
            for name in {"input", "mask"} & set(batch):
                canvas = item.setdefault(name, torch.zeros(1, batch[name].shape[1], 48, 64))
                canvas[..., down.start : down.stop, across.start : across.stop] = batch[name]
        found.append(item)
    return found


def test_masks_of_the_same_names(images, masks):
    (images / "more").mkdir()
    (masks / "more").mkdir()
    shutil.move(sorted(images.glob("*.png"))[0], images / "more" / "a.png")
    shutil.move(sorted(masks.glob("*.bmp"))[0], masks / "more" / "a.bmp")
    found = items(images, str(masks))
    assert len(found) == 2
    for item in found + items(images, str(masks), side=10):
        holes(item)


def test_one_mask_for_one_image(images, masks):
    image, mask = sorted(images.iterdir())[0], sorted(masks.iterdir())[0]
    for given in (mask, masks):
        holes(items(image, str(given))[0])


def test_masks_of_any_kind(images, masks):
    image, colour = sorted(images.iterdir())[0], np.zeros((48, 64, 3), np.uint8)
    colour[HOLE] = (0, 220, 60)  # luma over half
    colour[:5] = (255, 0, 60)  # luma under half
    Image.fromarray(colour).save(masks / "colour.png")
    Image.fromarray(np.dstack([colour, np.zeros_like(colour[..., :1])])).save(masks / "transparent.png")
    cv2.imwrite(str(masks / "deep.png"), (colour[..., 1] > 0).astype(np.uint16) * 65535)
    Image.fromarray(colour[..., 1] > 0).save(masks / "bits.png")
    for name in ("colour", "transparent", "deep", "bits"):
        holes(items(image, str(masks / f"{name}.png"))[0])


@pytest.mark.parametrize("side", [10, 1000])
def test_a_mask_of_zeros_and_ones_is_refused_before_the_output_is_complete(images, masks, side):
    image = sorted(images.iterdir())[0]
    Image.fromarray(np.eye(48, 64, dtype=np.uint8)).save(masks / "ones.png")
    tiling = tiling_by_side(48, 64, Cut(3), side)
    finder = mask_finder(str(masks / "ones.png"), [image])
    *before, last = tile_batches([list_jobs([image], images.parent / "nowhere")], lambda header, suffix: tiling, finder)
    assert "is black (values 0 and 1 of 255); holes must be white" in last["tiles"].problem
    rows = {batch["tiles"].tiles[0].row for batch in before}
    assert rows == set(range(len(tiling.rows) - 1)), "the last row of tiles would complete the output"


def test_transparent_pixels_are_filled_and_come_back_opaque(images):
    first, second = sorted(images.iterdir())
    alpha = np.full((48, 64, 1), 255, np.uint8)
    alpha[:9] = 128  # a soft edge, less than half transparent
    alpha[HOLE] = 127
    Image.fromarray(np.dstack([np.array(Image.open(first)), alpha])).save(first)
    found = items(images, "alpha")
    holes(found[0])
    assert found[0]["alpha"] is None
    assert "problem" not in found[0]
    assert found[1]["problem"] == f"{second}: has no alpha channel to say what to fill"


@pytest.mark.parametrize("kind", ["rgb", "sixteen", "gray"])
def test_a_colour_marks_the_hole(images, kind):
    path = sorted(images.iterdir())[0]
    image = np.clip(np.array(Image.open(path)), 0, 250)
    image[HOLE] = (255, 255, 255) if kind == "gray" else (255, 1, 254)
    near = np.s_[0:3, 0:3]
    image[near] = (254, 254, 254) if kind == "gray" else (255, 1, 253)
    if kind == "sixteen":
        cv2.imwrite(str(path), image[..., ::-1].astype(np.uint16) * 257)
    else:
        Image.fromarray(image[..., 0] if kind == "gray" else image).save(path)
    item = items(path, "#ffffff" if kind == "gray" else "#Ff01fE")[0]
    holes(item)
    assert not items(path, "#ff01fe" if kind == "gray" else "#ffffff")[0]["mask"].any()


def test_problems_of_one_image_do_not_stop_the_others(images, masks):
    first, second = sorted(images.iterdir())
    mask = sorted(masks.iterdir())[0]
    for name, content in (("small", None), ("broken", b"no picture")):
        shutil.copy(first, images / f"{name}.png")
        if content is None:
            Image.new("L", (10, 20)).save(masks / f"{name}.png")
        else:
            (masks / f"{name}.png").write_bytes(content)
    shutil.copy(first, images / "lonely.png")
    shutil.copy(first, images / "twice.png")
    for suffix in (".bmp", ".jpg"):
        shutil.copy(mask, masks / f"twice{suffix}")
    found = {item["path"].stem: item for item in items(images, str(masks))}
    holes(found[first.stem])
    holes(found[second.stem])
    for name, said in (
        ("small", f"small.png: its mask {masks / 'small.png'} is 10×20, the image 64×48"),
        ("broken", f"cannot read {masks / 'broken.png'}"),
        ("lonely", f"lonely.png: there is no mask of this name in {masks}"),
        (
            "twice",
            f"twice.png: its mask is ambiguous: twice.bmp, twice.jpg in {masks} could",
        ),
    ):
        assert said in found[name]["problem"]
        assert not {"input", "mask"} & set(found[name])


def test_images_without_masks_get_no_mask(images):
    item = items(images, None)[0]
    assert "mask" not in item
    assert item["input"].shape == (1, 3, 48, 64)


@pytest.mark.parametrize(
    ("mask", "said"),
    [
        ("nowhere", "the mask nowhere does not exist"),
        ("#ff00f", "not of the form #rrggbb"),
        ("{images}/wine-1.png", "does not exist"),
        ("{masks}/{mask}", "is one file for a folder of images"),
        ("{images}", "are in the folder of images"),
    ],
)
def test_a_wrong_mask_is_an_error_at_once(images, masks, mask, said):
    given = mask.format(images=images, masks=masks, mask=sorted(masks.iterdir())[0].name)
    with pytest.raises(UserError, match=said):
        mask_finder(given, [images])
