"""Checks of a command line before torch is imported."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from img2img.errors import UserError
from img2img.training.preflight import check, find_config


def test_a_config_is_found_without_its_suffix():
    assert find_config("denoise") == find_config("denoise.yaml")


@pytest.mark.parametrize(
    ("option", "said"),
    [
        ("--data.predict_dir=in", "--data.predict_dir is now called --restore.input"),
        ("--data.predict_mask=alpha", "--data.predict_mask is now called --restore.mask"),
        ("--output.folder=out", "--output.folder is now called --restore.output"),
        ("--output.tile=64", "--output.tile is now called --restore.tile"),
        ("--max_steps=5", "did you mean --trainer.max_steps?"),
        ("--root=photos", "did you mean --data.root?"),
        ("--lr=1", "did you mean --model.lr?"),
    ],
)
def test_wrong_spellings_are_told_the_right_one(option, said):
    with pytest.raises(UserError, match=said):
        check("predict", ["--config=denoise.yaml", option])


def test_predict_says_what_it_needs():
    with pytest.raises(UserError, match=r"predict needs --restore\.input"):
        check("predict", ["--config=denoise.yaml", "--model.weights=denoise"])


def test_a_file_is_refused_as_a_folder_of_photographs():
    Path("gray.png").write_bytes(b"")
    with pytest.raises(UserError, match=r"gray.png is a file; give a folder"):
        check("fit", ["--config=denoise.yaml", "--data.root=gray.png"])


def test_runs_can_be_named():
    found = check("fit", ["--config=denoise.yaml", "--name=first"])
    assert found.name == "first"
    assert not any("name" in argument for argument in found.argv)
    with pytest.raises(UserError, match="name of a folder"):
        check("fit", ["--config=denoise.yaml", "--name=../first"])


def test_old_saved_configs_lose_options_at_their_defaults():
    old = yaml.safe_load(find_config("denoise").read_text())
    old["data"]["init_args"] |= {"predict_dir": None, "predict_mask": None}
    old["output"] = {"folder": "restored", "format": "keep", "quality": 95, "overwrite": False, "tile": None}
    Path("old.yaml").write_text(yaml.safe_dump(old))
    (config,) = (argument for argument in check("fit", ["--config=old.yaml"]).argv if argument.startswith("--config"))
    found = yaml.safe_load(config.removeprefix("--config="))
    assert "output" not in found
    assert not {"predict_dir", "predict_mask"} & found["data"]["init_args"].keys()
    old["output"]["tile"] = 64
    Path("old.yaml").write_text(yaml.safe_dump(old))
    with pytest.raises(UserError, match=r"output.tile is now called restore.tile"):
        check("fit", ["--config=old.yaml"])


def test_the_network_gets_the_size_of_the_images():
    found = check("fit", ["--config=autoencode.yaml", "--data.image_size=[32,32]"])
    assert "--model.network.init_args.image_size=[32,32]" in found.argv
    both = ["--data.image_size=[32,32]", "--model.network.init_args.image_size=[16,16]"]
    assert check("fit", ["--config=autoencode.yaml", *both]).argv[1:] == both


def test_weights_keep_the_sizes_of_their_network():
    found = check("fit", ["--config=autoencode.yaml", "--data.image_size=[32,32]", "--model.weights=denoise"])
    assert not any(argument.startswith("--model.network") for argument in found.argv)


def test_options_of_predict_belong_to_it():
    with pytest.raises(UserError, match=r"--restore.tile belongs to img2img predict, not to fit"):
        check("fit", ["--config=denoise.yaml", "--restore.tile=64"])
    config = yaml.safe_load(find_config("denoise").read_text()) | {"restore": {"tile": 64}, "data": "CorruptedPairs"}
    Path("both.yaml").write_text(yaml.safe_dump(config))
    assert "restore" not in check("fit", ["--config=both.yaml"]).argv[0]


def test_masks_among_the_images_are_warned_of():
    for name in ("good", "blowhole", "blowhole_masks"):
        Path("tiles", name).mkdir(parents=True)
    with pytest.warns(UserWarning, match=r"holds masks \(blowhole_masks\).*give --data.root tiles/good"):
        check("fit", ["--config=anomaly.yaml", "--data.root=tiles"])
