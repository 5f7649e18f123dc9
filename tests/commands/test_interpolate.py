from pathlib import Path

import pytest

from img2img.cli import main
from tests.latents.autoencoders import picture, read, save, tiles


def test_the_command_draws_the_way_and_says_where(tmp_path, capsys):
    model = save(tmp_path / "m.ckpt")
    ends = [str(picture(Path(f"in/{name}.png"), [0.1 * i, 0, 0])) for i, name in enumerate(("first", "second"))]
    main(["interpolate", *ends, "way.png", "--model", model, "--steps", "5", "--accelerator", "cpu"])
    assert "5 images from first.png to second.png: way.png" in capsys.readouterr().out
    assert len(tiles(read("way.png"), 7, captions=True)) == 7
    with pytest.raises(SystemExit) as stop:
        main(["interpolate", *ends, "way.png", "--model", model, "--accelerator", "cpu"])
    assert stop.value.code == 2
    assert "way.png is there already; give --overwrite" in capsys.readouterr().err
