"""Two processes on one CPU; in subprocesses, for Lightning starts the others by running the command line again."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from tests.conftest import TINY

DDP = ["--trainer.strategy=ddp", "--trainer.devices=2"]


def run(*argv: str) -> str:
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    result = subprocess.run(
        [sys.executable, "-m", "img2img", *argv],
        capture_output=True,
        text=True,
        env=environment,
        timeout=300,
        check=False,
    )
    assert result.returncode == 0, result.stderr[-3000:]
    return result.stdout


@pytest.fixture
def flags(photos) -> list[str]:
    return ["--config", "denoise.yaml", *TINY, f"--data.root={photos}"]


def test_fit_sees_the_same_samples_and_test_counts_each_image_once(flags, photos):
    exact = ["--trainer.precision=64-true", "--trainer.max_steps=4"]
    run("fit", *flags, *exact, "--data.batch_size=4")
    run("fit", *flags, *exact, "--data.batch_size=2", *DDP)
    run("fit", *flags, *exact, "--data.batch_size=4", "--seed_everything=1")
    one, two, control = (
        torch.load(f"runs/denoise/{n}/last.ckpt", weights_only=True)["current_model_state"] for n in range(3)
    )
    assert max((one[k] - two[k]).abs().max() for k in one) < 1e-12
    assert max((one[k] - control[k]).abs().max() for k in one) > 1e-5

    test = ["--trainer.precision=64-true", "--ckpt_path=runs/denoise/0/best.ckpt"]
    for image in sorted((photos / "test").glob("*.png"))[1:]:
        image.unlink()  # one image with three corruptions: an odd number of items for two processes
    alone, shared = (run("test", *flags, *test, *more) for more in ([], DDP))
    rows = [re.findall(r"(test/\S+)\s+│\s+(\S+)", out) for out in (alone, shared)]
    assert rows[0] == rows[1]
    assert len(rows[0]) == 13


def test_more_processes_than_images(flags, photos):
    from PIL import Image

    run("fit", *flags, "--trainer.max_steps=1")
    for image in sorted((photos / "test").glob("*.png"))[1:]:
        image.unlink()
    one = Path("one")
    one.mkdir()
    Image.open(next((photos / "test").glob("*.png"))).save(one / "a.png")
    checkpoint = "--ckpt_path=runs/denoise/0/best.ckpt"
    single = [
        checkpoint,
        '--data.evaluation={"sigma25": [{"class_path": "GaussianNoise", "init_args": {"sigma": 25}}]}',
    ]
    alone, shared = (run("test", *flags, *single, *more) for more in ([], DDP))
    rows = [re.findall(r"(test/\S+)\s+│\s+(\S+)", out) for out in (alone, shared)]
    assert rows[0] == rows[1]
    run("predict", *flags, *DDP, checkpoint, "--data.predict_dir=one")
    assert [path.name for path in Path("restored").iterdir()] == ["a.png"]


def test_restore_writes_each_file_once(flags, photos):
    run("fit", *flags, "--trainer.max_steps=1")
    model = "runs/denoise/0/best.ckpt"
    script = (
        "import json, sys, img2img.imaging.files as files, img2img.callbacks.writer as writer\n"
        "write = files.write_image\n"
        "def noted(path, image):\n"
        "    open('written.jsonl', 'a').write(json.dumps(str(path)) + '\\n'); write(path, image)\n"
        "writer.write_image = noted\n"
        "from img2img.cli import main; main(sys.argv[1:])\n"
    )
    Path("noting.py").write_text(script)
    arguments = ["restore", str(photos), "out", "--model", model, "--accelerator", "cpu", "--devices", "2"]
    subprocess.run([sys.executable, "noting.py", *arguments], check=True, capture_output=True, timeout=300)
    written = [json.loads(line) for line in Path("written.jsonl").read_text().splitlines()]
    assert sorted(written) == sorted(str(Path("out", path.relative_to(photos))) for path in photos.rglob("*.png"))
