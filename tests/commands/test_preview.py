from pathlib import Path

import albumentations
import numpy as np
import pytest
from PIL import Image

from img2img.cli import main
from img2img.corruptions import GaussianNoise, RandomPixels
from img2img.data import CorruptedPairs
from img2img.imaging.drawing import ROW_LINE
from img2img.shipped import shipped_configs
from img2img.training.preview import _applied


@pytest.mark.parametrize("config", [path.name for path in shipped_configs()])
def test_every_config_can_be_previewed(config, data_flags, capsys):
    whole = config in ("anomaly_autoencoder.yaml", "autoencode.yaml", "pca.yaml", "vae.yaml")  # scaled, not cropped
    size = "--data.image_size=[32,32]" if whole else "--data.crop_size=32"
    main(["preview", "pairs.png", "--config", config, *data_flags(config), size])
    picture = np.array(Image.open("pairs.png"))
    assert picture.shape[1] > 4 * 2 * 32
    assert picture.shape[0] > 4 * 32
    assert "Pairs 0 to 15" in capsys.readouterr().out
    assert not Path("runs").exists()


def test_it_shows_the_numbered_samples_of_the_stream(photos):
    flags = ["--config", "denoise.yaml", f"--data.root={photos}", "--data.crop_size=32"]
    main(["preview", "all.png", *flags, "--n", "8"])
    main(["preview", "late.png", *flags, "--n", "4", "--first", "4"])
    main(["preview", "other.png", *flags, "--n", "4", "--first", "4", "--seed_everything", "1"])
    everything, late, other = (np.array(Image.open(f"{name}.png")) for name in ("all", "late", "other"))
    np.testing.assert_array_equal(everything[:ROW_LINE], late[:ROW_LINE])  # the headings
    np.testing.assert_array_equal(everything[len(late) :], late[ROW_LINE:])
    assert not np.array_equal(late, other)
    main(["preview", "given.png", *flags, "--samples", "4", "5-7"])
    np.testing.assert_array_equal(np.array(Image.open("given.png")), late)


def test_it_names_what_was_applied_and_the_numbers_drawn(photos):
    blur, noise = albumentations.GaussianBlur(p=1.0), GaussianNoise(7)
    either = albumentations.OneOf([noise, RandomPixels()], p=1.0)
    data = CorruptedPairs(str(photos), crop_size=16, corruption=[blur, either])
    data.setup("fit")
    pairs = data.training_pairs()
    said = []
    for n in range(8):
        pairs[n]
        said.append(_applied(pairs))
    assert {tuple(lines) for lines in said} == {
        ("GaussianBlur", "GaussianNoise sigma 7"),
        ("GaussianBlur", "RandomPixels"),
    }


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--config", "denois.yaml"], "did you mean denoise.yaml?"),
        (["--config", "denoise.yaml", "--trainer.max_steps=3"], "unknown option --trainer.max_steps=3"),
        (["--config", "denoise.yaml", "--n=0"], "--n must be at least 1"),
        (
            ["--config", "denoise.yaml", "--samples", "1", "9-7"],
            "--samples takes numbers and ranges, such as 7 16-31, not 9-7",
        ),
        (["--config", "denoise.yaml", "--data.rot=x"], "'rot' is not accepted"),
    ],
)
def test_wrong_flags_are_one_line(flags, said, capsys):
    with pytest.raises(SystemExit) as stop:
        main(["preview", "pairs.png", *flags])
    assert stop.value.code == 2
    assert said in capsys.readouterr().err


def test_nothing_is_overwritten_unasked(photos, capsys):
    photograph = photos / "train" / "photograph.png"
    next((photos / "train").iterdir()).rename(photograph)
    before = photograph.read_bytes()
    flags = ["--config", "denoise.yaml", f"--data.root={photos}", "--data.crop_size=32", "--n=1"]
    with pytest.raises(SystemExit):
        main(["preview", str(photograph), *flags])
    assert "give --overwrite to replace it" in capsys.readouterr().err
    assert photograph.read_bytes() == before
    Path("pairs.png").symlink_to("nowhere.png")
    with pytest.raises(SystemExit):
        main(["preview", "pairs.png", *flags])
    main(["preview", "pairs.png", *flags, "--overwrite"])
    assert Path("pairs.png").stat().st_size > 0
