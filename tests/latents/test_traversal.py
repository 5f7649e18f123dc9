from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from img2img.errors import UserError
from img2img.latents.traversal import traverse
from tests.latents.autoencoders import QUANTILES, by_hand, image_of, names, picture, read, tiles

CPU = {"accelerator": "cpu"}
LATENT = [0.1, -0.1, 0.05]


@pytest.fixture
def image() -> Path:
    return picture(Path("image.png"), LATENT)


def with_latent(d: int, value: float) -> list[float]:
    return [value if i == d else other for i, other in enumerate(LATENT)]


def test_rows_are_latents_at_their_quantiles_those_with_most_effect_first(image):
    found = traverse(image, "latents.png", by_hand(), **CPU)
    assert found.latents == (1, 0, 2)
    assert found.changes.tolist() == pytest.approx([0.09, 0.36, 0.0144], rel=1e-3)  # of 0.6 its half, it, and a fifth
    shown = tiles(read("latents.png"), 7, captions=True)
    np.testing.assert_array_equal(shown[0], read(image))
    np.testing.assert_array_equal(shown[1], read(image))  # the model draws it exactly
    assert all((blank == 250).all() for blank in shown[2:7])
    for row, d in enumerate([1, 0, 2]):
        for column in range(7):
            wanted = image_of(with_latent(d, float(QUANTILES[column, d])))
            assert np.abs(shown[7 * (row + 1) + column].astype(int) - wanted).max() <= 1


def test_other_numbers_of_steps_lie_between_the_same_ends(image):
    assert traverse(image, "l.png", by_hand(), latents=1, steps=4, **CPU).latents == (1,)
    shown = tiles(read("l.png"), 4, captions=True)
    assert len(shown) == 8
    for tile, value in zip(shown[4:], (-0.3, -0.1, 0.1, 0.3), strict=True):
        assert np.abs(tile.astype(int) - image_of(with_latent(1, value))).max() <= 1


def test_in_the_film_all_latents_move(image):
    traverse(image, "l.gif", by_hand(), latents=2, **CPU)
    film = Image.open("l.gif")
    assert film.n_frames == 12
    frames = []
    for number in (0, 6, 11):
        film.seek(number)
        frames.append(tiles(np.array(film.convert("RGB")), 2, captions=True))
    for tile, d in zip(frames[1], (1, 0), strict=True):
        assert np.abs(tile.astype(int) - image_of(with_latent(d, float(QUANTILES[6, d])))).max() <= 1
    assert all(not np.array_equal(a, b) for a, b in zip(frames[0], frames[2], strict=True))


def test_a_latent_that_does_nothing_comes_last(image):
    task = by_hand()
    with torch.no_grad():
        task.network.decoder[0].weight[:, 1] = 0
    assert traverse(image, "l.png", task, **CPU).latents == (0, 2, 1)


def test_what_cannot_be_meant_is_one_line(image):
    for arguments, said in [
        ({"steps": 1}, "--steps at least 2"),
        ({"latents": 0}, "--latents must be at least 1"),
        ({"output": image}, "is there already"),
        ({"model": by_hand(measured=False)}, "does not hold the latents of its training images"),
    ]:
        with pytest.raises(UserError, match=said):
            traverse(**({"input": image, "output": "l.png", "model": by_hand()} | arguments | CPU))
    assert not Path("l.png").exists()


def test_without_an_output_the_images_are_returned_with_their_captions(image):
    found = traverse(image, None, by_hand(), latents=2, steps=3, batch_size=2, **CPU)
    assert names(".") == ["image.png"]
    assert found.captions == ("z1 at 1%", "z1 at 50%", "z1 at 99%", "z0 at 1%", "z0 at 50%", "z0 at 99%")
    traverse(image, "l.png", by_hand(), latents=2, steps=3, batch_size=2, **CPU)
    shown = tiles(read("l.png"), 3, captions=True)
    for made, tile in zip((found.original, found.reconstruction, *found.images), shown[:2] + shown[3:], strict=True):
        np.testing.assert_array_equal((made[0] * 255).round().byte(), tile)
