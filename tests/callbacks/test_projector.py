import json
import os
import time
import urllib.parse
import urllib.request
from pathlib import Path

import numpy as np
import pytest
import torch
from google.protobuf import text_format
from PIL import Image
from tensorboard.plugins.projector.projector_config_pb2 import ProjectorConfig

import img2img
from img2img.callbacks.projector import MOST_POINTS, SPRITE_SIDE, ProjectorThumbnails
from img2img.cli import main
from img2img.commands.watch import serve
from tests.conftest import STARTER

FLAGS = [
    *("--model.network.init_args.image_size=[12,16]", "--model.network.init_args.channels=[4,4]"),
    *("--model.network.init_args.latent_dim=3", "--data.image_size=[12,16]", "--data.batch_size=2"),
    *("--trainer.accelerator=cpu", "--trainer.enable_progress_bar=false", "--trainer.max_steps=2"),
]
NAMES = ["cat/1.png", "cat/2\t2.png", "dog\n/3.png"]


def fit(root: Path, *flags: str) -> Path:
    main(["fit", "--config=autoencode.yaml", *FLAGS, f"--data.root={root}", *flags])
    return Path("runs/autoencode/0")


@pytest.fixture(scope="module")
def root(tmp_path_factory) -> Path:
    """train/ and val/ with folders of kinds, whose names would break a table."""
    photo = np.array(Image.open(STARTER / "val" / "wine-1.png").convert("RGB"))
    kinds = tmp_path_factory.mktemp("images") / "kinds"
    for i, name in enumerate(["train/cat/1.png", "train/dog/2.png", *(f"val/{name}" for name in NAMES)]):
        path = kinds / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(photo[40 * i : 40 * i + 24, :32]).save(path)
    return kinds


@pytest.fixture(scope="module")
def run(root, tmp_path_factory) -> Path:
    """The folder of a run that has ended, which tests only read."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("IMG2IMG_CACHE", str(tmp_path_factory.getbasetemp() / "cache"))
        patch.chdir(tmp_path_factory.mktemp("trained"))
        os.environ.pop("IMG2IMG_RUN", None)  # of an earlier test's run
        return fit(root).resolve()


def test_training_ends_with_the_validation_images_latents(root, run):
    config = text_format.Parse((run / "projector_config.pbtxt").read_text(), ProjectorConfig())
    (embedding,) = config.embeddings
    tensors = np.loadtxt(run / embedding.tensor_path, delimiter="\t")
    table = [line.split("\t") for line in (run / embedding.metadata_path).read_text().splitlines()]
    assert table[0] == ["label", "file", "error"]
    assert [row[:2] for row in table[1:]] == [
        ["cat", "cat/1.png"],
        ["cat", "cat/2\\t2.png"],
        ["dog\\n", "dog\\n/3.png"],
    ]
    task = img2img.load(run / "last.ckpt")
    encoded = img2img.encode(root / "val", None, task, accelerator="cpu", devices=1)
    assert encoded.path == NAMES
    np.testing.assert_allclose(tensors, encoded.mu, atol=1e-4)
    np.testing.assert_allclose([float(row[2]) for row in table[1:]], encoded.error, atol=2e-5)
    sprite = Image.open(run / embedding.sprite.image_path)
    assert list(embedding.sprite.single_image_dim) == [16, 16]
    assert sprite.size == (32, 32), "2×2 places for 3 images"
    first = np.array(Image.open(root / "val" / NAMES[0]).convert("L").resize((16, 12), Image.Resampling.BOX))
    shown = np.array(sprite)[2:14, :16, 0]
    assert np.abs(shown.astype(int) - first).max() <= 1
    assert (np.array(sprite)[:2, :16] == 255).all(), "not square: on white"


def test_tensorboard_shows_it(run):
    address = serve(run.parent.parent)
    runs: list[str] = []
    for _ in range(60):  # TensorBoard loads in the background
        with urllib.request.urlopen(f"{address}data/plugin/projector/runs", timeout=30) as reply:
            runs = json.load(reply)
        if runs:
            break
        time.sleep(0.5)
    assert runs == ["autoencode/0"]
    query = urllib.parse.urlencode({"run": runs[0], "name": "latents:00002"})
    with urllib.request.urlopen(f"{address}data/plugin/projector/tensor?{query}", timeout=30) as reply:
        assert len(reply.read()) == 3 * 3 * 4


def test_images_that_are_corrupted_in_two_ways_are_two_points(root):
    ways = "{dim: [{class_path: GaussianNoise, init_args: {sigma: 5}}], dark: [{class_path: GaussianNoise}]}"
    run = fit(root, f"--data.evaluation={ways}")
    lines = (run / "00002/latents/metadata.tsv").read_text().splitlines()
    assert [line.split("\t")[1] for line in lines[1:3]] == ["cat/1.png · dim", "cat/1.png · dark"]
    assert len(lines) == 1 + 6


def test_no_logger_no_projector_and_none_for_other_tasks(root, program):
    assert not (fit(root, "--trainer.logger=false") / "projector_config.pbtxt").exists()
    program("fit", "--trainer.max_steps=1")
    assert Path("runs/denoise/0/grid.png").exists()
    assert not Path("runs/denoise/0/projector_config.pbtxt").exists()


def test_as_many_thumbnails_as_tensorboard_takes():
    few, many = ProjectorThumbnails(25), ProjectorThumbnails(123_456)
    assert len(few.chosen) == 25
    assert few.side == 64
    assert len(many.chosen) == MOST_POINTS
    assert max(np.diff(sorted(many.chosen))) <= 13, "evenly spread"
    assert many.side * 100 <= SPRITE_SIDE


def test_thumbnails_keep_colours_and_small_images_their_size(photo):
    image = torch.from_numpy(photo).permute(2, 0, 1)[None] / 255
    (large,) = ProjectorThumbnails(1).of(image, torch.tensor([0]))
    expected = np.array(Image.fromarray(photo).resize((64, 64), Image.Resampling.BOX))
    assert np.abs(large.permute(1, 2, 0).numpy().astype(int) - expected).max() <= 1
    (small,) = ProjectorThumbnails(1).of(image[..., :5, :9], torch.tensor([0]))
    assert small.shape == (3, 9, 9)
    assert torch.equal(small[:, 2:7], torch.from_numpy(photo[:5, :9]).permute(2, 0, 1))
    assert ProjectorThumbnails(20_000).of(image, torch.tensor([1])) == [None], "every other is shown"
