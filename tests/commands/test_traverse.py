from pathlib import Path

from img2img.cli import main
from tests.latents.autoencoders import picture, read, save, tiles


def test_the_command_names_the_latents_that_change_most(tmp_path, capsys):
    model, image = save(tmp_path / "m.ckpt"), picture(Path("image.png"), [0.1, -0.1, 0.05])
    main(["traverse", str(image), "latents.png", "--model", model, "--accelerator", "cpu"])
    said = capsys.readouterr().out
    assert "3 of 3 latents" in said
    assert "(z1 0.36; z0 0.09; z2 0.014): latents.png" in said  # (0.3 + 0.3)², half of that and a fifth, squared
    assert len(tiles(read("latents.png"), 7, captions=True)) == 28
