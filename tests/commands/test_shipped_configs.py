"""Every shipped config through every command."""

import re
import shlex
from pathlib import Path

import pytest
import torch
import yaml
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from img2img.cli import main
from img2img.shipped import shipped_configs


def mask_folder(photos: Path) -> Path:
    """A mask for each photograph: a white square."""
    for source in photos.rglob("*.png"):
        mask = Image.new("L", (64, 48))
        mask.paste(255, (10, 10, 30, 30))
        path = photos.parent / "masks" / source.relative_to(photos)
        path.parent.mkdir(parents=True, exist_ok=True)
        mask.save(path)
    return photos.parent / "masks"


# Three steps for what has no end; the tiny network cannot begin with a shipped model's weights.
OTHER = {"denoise_long": ["--trainer.val_check_interval=3"], "denoise_photo": ["--model.weights=null"]}
AUTOENCODERS = ("anomaly_autoencoder.yaml", "autoencode.yaml", "pca.yaml", "vae.yaml")


RESTORING = [path.name for path in shipped_configs() if path.name not in AUTOENCODERS]
OF_EACH_KIND = (
    *("anomaly.yaml", "colorize.yaml", "denoise.yaml", "denoise_uncertain.yaml", "denoise_without_clean.yaml"),
    *("inpaint.yaml", "pairs.yaml"),
)
"""One config of each task and each kind of data."""


def test_each_task_and_each_kind_of_data_goes_through_every_command():
    def kinds(names):
        trees = [yaml.safe_load(path.read_text()) for path in shipped_configs() if path.name in names]
        return {tree[part]["class_path"] for tree in trees for part in ("model", "data")}

    assert kinds(OF_EACH_KIND) == kinds(RESTORING)


@pytest.mark.parametrize("config", [name for name in RESTORING if name not in OF_EACH_KIND])
def test_the_other_configs_fit_and_test(program, config, capsys):
    name = config.removesuffix(".yaml")
    program("fit", "--trainer.max_steps=3", *OTHER.get(name, []), config=config)
    assert "Done: val PSNR" in capsys.readouterr().out
    program("test", f"--ckpt_path=runs/{name}/0/best.ckpt", *OTHER.get(name, []), config=config)
    assert "test/psnr" in capsys.readouterr().out


@pytest.mark.parametrize(
    "config", [pytest.param(name, marks=[] if name in OF_EACH_KIND else pytest.mark.slow) for name in RESTORING]
)
def test_every_config_fits_validates_tests_and_predicts(program, photos, config, capsys):
    name = config.removesuffix(".yaml")
    other = OTHER.get(name, [])
    program("fit", "--trainer.max_steps=3", *other, config=config)
    run = Path(f"runs/{name}/0")
    assert {"best.ckpt", "last.ckpt", "grid.png", "config.yaml"} <= {file.name for file in run.iterdir()}
    last_line = capsys.readouterr().out.strip().splitlines()[-1]
    assert re.search(rf"Done: .* {run}/best.ckpt, .* {run}/grid.png; .* img2img watch", last_line)
    own = {"colorize": "delta_e", "inpaint": "psnr_hole"}.get(name, "psnr")
    scalars = EventAccumulator(str(run)).Reload().Tags()["scalars"]
    assert {f"val/{own}", f"val/{own}_input", "val/psnr", "val/ssim", "val/loss"} <= set(scalars)
    program("validate", "--ckpt_path=best", *other, config=config)
    program("test", f"--ckpt_path={run}/best.ckpt", *other, config=config)
    assert "test/psnr" in capsys.readouterr().out
    masks = [f"--restore.mask={mask_folder(photos)}"] if config == "inpaint.yaml" else []
    program(
        "predict",
        "--ckpt_path=best",
        f"--restore.input={photos}",
        "--restore.output=restored",
        *masks,
        *other,
        config=config,
    )
    sources = sorted(path.relative_to(photos) for path in photos.rglob("*.png"))
    assert sorted(path.relative_to("restored") for path in Path("restored").rglob("*.png")) == sources
    assert Image.open(Path("restored") / sources[0]).size == (64, 48)
    assert not Path("lightning_logs").exists()


@pytest.mark.parametrize("config", AUTOENCODERS)
def test_every_autoencoder_fits_validates_and_tests(config, photos, capsys):
    size = [f"--{part}.image_size=[16,12]" for part in ("data", "model.network.init_args")]
    narrow = [] if config == "pca.yaml" else ["--model.network.init_args.channels=[8,8]"]
    latents = ["--model.network.init_args.latent_dim=3", "--data.batch_size=2"]
    common = ["--config", config, f"--data.root={photos}", *size, *narrow, *latents, "--trainer.accelerator=cpu"]
    main(["fit", *common, "--trainer.max_steps=3", "--trainer.enable_progress_bar=false"])
    run = Path(f"runs/{config.removesuffix('.yaml')}/0")
    assert {"best.ckpt", "last.ckpt", "grid.png", "config.yaml"} <= {file.name for file in run.iterdir()}
    assert re.search(r"Done: val (-?[\d.]+ bits/dim, )?error [\d.]+, PCA [\d.]+; checkpoint", capsys.readouterr().out)
    main(["test", *common, f"--ckpt_path={run / 'best.ckpt'}"])
    assert "test/mse_pca" in capsys.readouterr().out
    with pytest.raises(SystemExit):
        main(["predict", *common, "--ckpt_path=best", f"--restore.input={photos}", "--restore.output=restored"])
    assert "img2img reconstruct, encode or edit" in capsys.readouterr().err


def test_only_noisy_images_by_the_flags_of_the_configs_own_words(program):
    """They stand in the comment at the head of the file; the score then looks at hidden pixels only."""
    config = next(path for path in shipped_configs() if path.name == "denoise_without_clean.yaml")
    comment = "".join(line for line in config.read_text().splitlines(True) if line.startswith("#"))
    flags = shlex.split(comment.split("--data.root DIR")[1].replace("#", ""))
    program("fit", "--trainer.max_steps=3", *flags, config=config.name)
    best = torch.load("runs/denoise_without_clean/0/best.ckpt", weights_only=True)
    scores = [state["best_model_score"] for key, state in best["callbacks"].items() if "val/psnr_hole" in key]
    assert len(scores) == 1
    assert 5 < float(scores[0]) < 50
