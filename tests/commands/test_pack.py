"""A checkpoint becomes one small file, which goes wherever a checkpoint goes."""

import re
from pathlib import Path

import pytest
import torch

import img2img
from img2img.cli import main
from img2img.errors import UserError
from tests.commands.models import save_model
from tests.test_cli import error_of


def test_pack_writes_a_model_and_a_card_to_fill_in(tmp_path, photos, capsys):
    checkpoint = save_model(tmp_path / "m.ckpt", change=0.05)
    main(["pack", str(checkpoint), "mine.safetensors"])
    assert "fill in its card mine.md" in capsys.readouterr().out
    card = Path("mine.md").read_text()
    assert card.startswith("# mine\n")
    assert "Restoration with RestorationUNet" in card
    main(["restore", str(photos), "out", "--model", "mine.safetensors"])
    assert len(list(Path("out").rglob("*.png"))) == 10


def test_a_card_that_was_filled_in_stays(tmp_path):
    checkpoint = save_model(tmp_path / "m.ckpt")
    Path("mine.md").write_text("# mine\n\nwritten by hand\n")
    img2img.pack(checkpoint, "mine.safetensors")
    with pytest.raises(UserError, match="is there already; give --overwrite"):
        img2img.pack(checkpoint, "mine.safetensors")
    img2img.pack(checkpoint, "mine.safetensors", overwrite=True)
    assert "written by hand" in Path("mine.md").read_text()


def test_a_packed_model_is_tested_and_fine_tuned_from(program, checkpoint, capsys):
    packed = img2img.pack(checkpoint, "mine.safetensors", precision="float32").model
    for path in (checkpoint, packed):
        program("test", f"--ckpt_path={path}")
    tables = [re.findall(r"(test/\S+)\s+(\S+)", text) for text in capsys.readouterr().out.split("Test metric")]
    assert len(tables[-1]) > 3
    assert tables[-1] == tables[-2]
    program("fit", "--trainer.max_steps=1", f"--model.weights={packed}")
    begun = torch.load("runs/denoise/1/last.ckpt", weights_only=True)["state_dict"]["network.head.weight"]
    assert (begun - img2img.load(packed).state_dict()["network.head.weight"]).abs().max() < 0.05


def test_weights_bring_the_sizes_of_their_network(program, data_flags, checkpoint, capsys):
    packed = img2img.pack(checkpoint, "mine.safetensors").model
    quick = ["--trainer.accelerator=cpu", "--trainer.enable_progress_bar=false", *data_flags("denoise.yaml")]
    main(["test", "--config", "denoise.yaml", *quick, "--ckpt_path", str(packed)])  # whose own network is larger
    assert "The network takes its sizes from mine.safetensors" in capsys.readouterr().out
    small = ["--data.crop_size=16", "--data.batch_size=2", "--trainer.max_steps=1"]
    for weights in (packed, checkpoint):
        main(["fit", "--config", "denoise.yaml", *quick, *small, f"--model.weights={weights}"])
    assert img2img.load("runs/denoise/2/last.ckpt").network.head.out_channels == 8
    with pytest.raises(SystemExit):
        program("fit", f"--model.weights={packed}", "--model.network.init_args.channels=[8,16]")
    assert "do not fit this model" in capsys.readouterr().err


def test_a_training_cannot_go_on_from_a_packed_model(program, checkpoint, capsys):
    img2img.pack(checkpoint, "mine.safetensors")
    with pytest.raises(SystemExit):
        program("fit", "--ckpt_path=mine.safetensors")
    assert "--model.weights mine.safetensors starts a new one" in capsys.readouterr().err


def test_an_autoencoder_keeps_its_statistics(photos):
    sizes = ["--data.image_size=[16,12]", "--model.network.init_args.image_size=[16,12]"]
    small = [
        "--model.network.init_args.channels=[8,8]",
        "--model.network.init_args.latent_dim=3",
        "--data.batch_size=2",
    ]
    quick = ["--trainer.max_steps=2", "--trainer.accelerator=cpu", "--trainer.enable_progress_bar=false"]
    main(["fit", "--config", "anomaly_autoencoder.yaml", f"--data.root={photos}", *sizes, *small, *quick])
    best = Path("runs/anomaly_autoencoder/0/best.ckpt")
    packed = img2img.pack(best, "mine.safetensors", precision="float32").model
    for name, model in (("a", best), ("b", packed)):
        main(["score", str(photos), f"{name}.csv", "--model", str(model)])
    assert Path("a.csv").read_text() == Path("b.csv").read_text()


def test_what_cannot_be_packed_is_said(tmp_path, capsys):
    checkpoint = save_model(tmp_path / "m.ckpt")
    assert "must end in .safetensors" in error_of(capsys, "pack", str(checkpoint), "mine.ckpt")
    assert "does not exist" in error_of(capsys, "pack", "absent.ckpt", "mine.safetensors")
    torch.save({"state_dict": {}}, "bare.ckpt")
    assert "holds no recipe" in error_of(capsys, "pack", "bare.ckpt", "mine.safetensors")
