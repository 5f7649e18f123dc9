from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import img2img
from img2img.cli import main
from img2img.errors import UserError
from tests.commands.autoencoders import QUANTILES, by_hand, drawn, picture, read, save, tiles

CPU = {"accelerator": "cpu"}
LATENT = [0.1, -0.1, 0.05]


@pytest.fixture
def image() -> Path:
    return picture(Path("image.png"), LATENT)


def with_latent(d: int, value: float) -> list[float]:
    return [value if i == d else other for i, other in enumerate(LATENT)]


def test_rows_are_latents_at_their_quantiles_those_with_most_effect_first(image, tmp_path, capsys):
    model = save(tmp_path / "m.ckpt")
    main(["traverse", str(image), "latents.png", "--model", model, "--accelerator", "cpu"])
    said = capsys.readouterr().out
    assert "3 of 3 latents" in said
    assert "(z1 0.36; z0 0.09; z2 0.014): latents.png" in said  # (0.3 + 0.3)², half of that and a fifth, squared
    shown = tiles(read("latents.png"), 7, captions=True)
    np.testing.assert_array_equal(shown[0], read(image))
    np.testing.assert_array_equal(shown[1], read(image))  # the model draws it exactly
    assert all((blank == 250).all() for blank in shown[2:7])
    for row, d in enumerate([1, 0, 2]):
        for column in range(7):
            wanted = drawn(with_latent(d, float(QUANTILES[column, d])))
            assert np.abs(shown[7 * (row + 1) + column].astype(int) - wanted).max() <= 1


def test_other_numbers_of_steps_lie_between_the_same_ends(image):
    assert img2img.traverse(image, "l.png", by_hand(), latents=1, steps=4, **CPU) == [1]
    shown = tiles(read("l.png"), 4, captions=True)
    assert len(shown) == 8
    for tile, value in zip(shown[4:], (-0.3, -0.1, 0.1, 0.3), strict=True):
        assert np.abs(tile.astype(int) - drawn(with_latent(1, value))).max() <= 1


def test_in_the_film_all_latents_move(image):
    img2img.traverse(image, "l.gif", by_hand(), latents=2, **CPU)
    film = Image.open("l.gif")
    assert film.n_frames == 12
    frames = []
    for number in (0, 6, 11):
        film.seek(number)
        frames.append(tiles(np.array(film.convert("RGB")), 2, captions=True))
    for tile, d in zip(frames[1], (1, 0), strict=True):
        assert np.abs(tile.astype(int) - drawn(with_latent(d, float(QUANTILES[6, d])))).max() <= 1
    assert all(not np.array_equal(a, b) for a, b in zip(frames[0], frames[2], strict=True))


def test_a_latent_that_does_nothing_comes_last(image):
    task = by_hand()
    with torch.no_grad():
        task.network.decoder[0].weight[:, 1] = 0
    assert img2img.traverse(image, "l.png", task, **CPU) == [0, 2, 1]


def test_what_cannot_be_meant_is_one_line(image):
    for arguments, said in [
        ({"steps": 1}, "--steps at least 2"),
        ({"latents": 0}, "--latents must be at least 1"),
        ({"output": image}, "is there already"),
        ({"model": by_hand(measured=False)}, "knows nothing of the codes of its training images"),
    ]:
        with pytest.raises(UserError, match=said):
            img2img.traverse(**({"image": image, "output": "l.png", "model": by_hand()} | arguments | CPU))
    assert not Path("l.png").exists()
