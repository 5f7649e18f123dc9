from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from img2img.cli import main
from img2img.shipped import shipped_configs


@pytest.mark.parametrize("config", [path.name for path in shipped_configs()])
def test_every_config_can_be_previewed(config, data_flags, capsys):
    whole = config in ("anomaly.yaml", "autoencode.yaml", "pca.yaml", "vae.yaml")  # scaled, not cropped
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
    np.testing.assert_array_equal(everything[len(late) :], late)
    assert not np.array_equal(late, other)


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--config", "denois.yaml"], "did you mean denoise.yaml?"),
        (["--config", "denoise.yaml", "--trainer.max_steps=3"], "unknown option --trainer.max_steps=3"),
        (["--config", "denoise.yaml", "--n=0"], "--n must be at least 1"),
        (["--config", "denoise.yaml", "--data.rot=x"], "'rot' is not accepted"),
    ],
)
def test_wrong_flags_are_one_line(flags, said, capsys):
    with pytest.raises(SystemExit) as stop:
        main(["preview", "pairs.png", *flags])
    assert stop.value.code == 2
    assert said in capsys.readouterr().err
