import time

import numpy as np
import pytest
import torch
from PIL import Image

from img2img.inference.groups import in_groups
from img2img.inference.jobs import list_jobs
from img2img.inference.tiles import read_ahead, tile_batches
from img2img.tiling.geometry import Cut, tiling_by_side


def whole(header, suffix):
    return tiling_by_side(header.height, header.width, Cut(0), 10_000)


@pytest.mark.parametrize("strip", [1, 7, 128])
def test_tiles_are_pieces_of_the_image_with_their_halo(tmp_path, photo, strip, monkeypatch):
    monkeypatch.setattr("img2img.inference.tiles.STRIP", strip)
    (tmp_path / "in").mkdir()
    image = photo[:61, :83]
    alpha = image[..., :1]
    Image.fromarray(np.concatenate([image, alpha], 2)).save(tmp_path / "in" / "a.png")
    tiling = tiling_by_side(61, 83, Cut(5, 4), 20)
    batches = list(tile_batches([list_jobs([tmp_path / "in"], tmp_path / "out")], lambda header, suffix: tiling))
    assert len(batches) == len(list(tiling)) == 4 * 5
    for batch in batches:
        (tile,) = batch["tiles"].tiles
        down, across = tile.tiling.rows[tile.row], tile.tiling.columns[tile.column]
        piece = image[down.start : down.stop, across.start : across.stop]
        np.testing.assert_allclose(batch["input"][0].permute(1, 2, 0), piece / np.float32(255), atol=1e-7)
        np.testing.assert_array_equal(tile.alpha, alpha[down.start : down.stop, across.start : across.stop])


def test_images_of_the_same_size_share_a_batch_and_bad_ones_stand_alone(tmp_path, photo):
    (tmp_path / "in").mkdir()
    for name in ("a", "b", "c"):
        Image.fromarray(photo[:20, :30]).save(tmp_path / "in" / f"{name}.png")
    jobs = list_jobs([tmp_path / "in"], tmp_path / "out")
    (tmp_path / "in" / "b.png").write_bytes(b"gone bad since")
    batches = list(tile_batches(in_groups(jobs, 1 << 20), whole, done={"c.png"}))
    assert [batch["tiles"].problem != "" for batch in batches] == [True, False]
    assert "b.png" in batches[0]["tiles"].problem
    assert batches[1]["input"].shape == (2, 3, 20, 30)
    assert [(tile.job.name, tile.wanted) for tile in batches[1]["tiles"].tiles] == [("a.png", True), ("c.png", False)]


def test_a_file_that_vanishes_does_not_stop_the_others(tmp_path, photo):
    (tmp_path / "in").mkdir()
    for name in ("a", "b"):
        Image.fromarray(photo[:20, : 30 + ord(name)]).save(tmp_path / "in" / f"{name}.png")
    jobs = list_jobs([tmp_path / "in"], tmp_path / "out")
    (tmp_path / "in" / "a.png").unlink()
    batches = list(tile_batches([[job] for job in jobs], whole))
    assert "a.png" in batches[0]["tiles"].problem
    assert torch.is_tensor(batches[1]["input"])


def test_reading_ahead_keeps_order_passes_errors_on_and_stops_when_nobody_listens():
    made = []

    def items():
        for n in range(1000):
            made.append(n)
            yield n

    found = read_ahead(items(), 3)
    assert [next(found) for _ in range(5)] == list(range(5))
    found.close()
    count = len(made)
    assert count < 20
    time.sleep(0.3)
    assert len(made) == count

    def breaks():
        yield 1
        raise KeyError("what it is")

    found = read_ahead(breaks(), 3)
    assert next(found) == 1
    with pytest.raises(KeyError, match="what it is"):
        next(found)
