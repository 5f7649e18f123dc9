"""What README.md and docs/ say runs: every command and Python block, in order, on small images with tiny networks."""

from __future__ import annotations

import itertools
import re
import shlex
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from PIL import Image, ImageDraw

import img2img
from img2img.cli import main
from tests.commands.models import RECIPE, UNCERTAIN, save_task
from tests.commands.processes import trial_in_this_process
from tests.conftest import STARTER
from tests.exporting.written import write_once
from tests.pages import PAGES, Block, blocks

SIZE = (64, 48)

# What a reader has -----------------------------------------------------------------------------------------------

NAMES = ("anna", "ben", "carla", "dario", "emma", "finn", "greta", "hugo", "ida", "jan")
FOLDERS = {
    "photos": ("beach.jpg", "day2/tower.png"),
    "scans": ("001.tif", "002.png"),
    "originals": ("001.tif", "002.png"),
    "kodak24": ("kodim01.png", "kodim02.png"),
    "parts": ("good/1.png", "good/2.png", "good/3.png", "blowhole/1.png", "blowhole/2.png"),
    "good": tuple(f"{number}.png" for number in range(20)),
    "faces": tuple(f"{mood}/{name}.png" for mood in ("neutral", "smile") for name in NAMES),
    **{folder: tuple(f"{n}.jpg" for n in range(4)) for folder in ("Pictures", "portraits", "landscapes", "noisy")},
}
"""Photographs, all different."""
MASKS = {"photos": "masks", "parts/blowhole": "parts/blowhole_masks"}
"""A mask for each image of a folder."""

COLORIZATION = {
    "class_path": "img2img.tasks.Colorization",
    "init_args": {
        "network": {
            "class_path": "img2img.networks.RestorationUNet",
            "init_args": {"in_channels": 1, "out_channels": 2, "channels": [8, 8], "blocks": 1, "residual": False},
        }
    },
}
INPAINTING = {
    "class_path": "img2img.tasks.Inpainting",
    "init_args": {
        "network": {"class_path": "img2img.networks.InpaintingUNet", "init_args": {"channels": [8, 8], "blocks": 1}}
    },
}
TRAINED = {
    "export.md": {"denoise": RECIPE},
    "restoring.md": {
        "denoise": RECIPE,
        "colorize": COLORIZATION,
        "inpaint": INPAINTING,
        "denoise_uncertain": UNCERTAIN,
    },
}
"""Models that a page takes as trained, by config; the others are trained on the page itself."""

# How commands become fast ----------------------------------------------------------------------------------------

NOT_RUN = {
    "pip": "installs packages",
    "pytest": "runs this test",
    "pre-commit": "changes the clone",
}
"""Programs that no test runs, with the reason."""
ONE_DEVICE = ("sample", "interpolate", "traverse")
"""Commands that know no `--devices`."""
AUTOENCODERS = ("anomaly_autoencoder", "autoencode", "vae")
NETWORKS = {
    **{config: ["image_size=[16,12]", "channels=[8,8]", "latent_dim=3"] for config in AUTOENCODERS},
    "denoise_photo": [],  # begins with the weights of a shipped model
    "mine": ["width=4"],
}
TINY = ["channels=[8,8]", "blocks=1"]
"""Arguments of a config's network, where `NETWORKS` names no others."""
PYTHON = {
    "[48, 96, 192]": "[8, 8]",
    "max_steps=1600": "max_steps=1",
    "crop_size=96, batch_size=4": "crop_size=16, batch_size=2, val_images=1",
}
"""What is replaced in Python blocks."""
OUTPUTS = {
    **dict.fromkeys(("preview", "sample", "schema"), 0),
    **dict.fromkeys(("restore", "encode", "reconstruct", "score", "edit", "traverse", "pack", "shard", "export"), 1),
    "interpolate": 2,
}
"""Which of a command's arguments names what it writes."""


def overrides(arguments: Sequence[str]) -> list[str]:
    """Returns the flags that let a command take a second at most."""
    command = arguments[0]
    if command in ("fit", "validate", "test", "predict"):
        return training_flags(arguments)
    if command == "sweep":
        return [*training_flags(["fit", *arguments[1:]]), "--trials=1"]
    if command == "preview":
        return ["--data.crop_size=16", "--n=4"]
    if command in ("models", "configs", "export", "pack", "schema", "evaluate-latents", "watch", "shard"):
        return []
    return ["--accelerator=cpu", *([] if command in ONE_DEVICE else ["--devices=1"])]


def training_flags(arguments: Sequence[str]) -> list[str]:
    config = Path(arguments[arguments.index("--config") + 1]).stem
    flags = ["--data.batch_size=2", "--trainer.accelerator=cpu", "--trainer.enable_progress_bar=false"]
    flags += ["--data.image_size=[16,12]"] if config in AUTOENCODERS else ["--data.crop_size=16", "--data.val_images=1"]
    if "--model.weights" not in arguments:  # they bring the sizes of their network
        flags += [f"--model.network.init_args.{each}" for each in NETWORKS.get(config, TINY)]
    if arguments[0] != "fit":
        return flags
    goes_on = "--ckpt_path" in arguments
    if config == "denoise_long":  # has no end: first one step, then a decay of two
        decay = ["--model.decay_steps=2", "--model.warmup_steps=0"]
        return flags + (decay if goes_on else ["--trainer.max_epochs=1", "--data.samples_per_epoch=2"])
    steps = 1 + goes_on + (goes_on and "--trainer.max_steps" in arguments)  # one more each time
    return [*flags, f"--trainer.max_steps={steps}"]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_block_is_run_or_says_why_not(page):
    for block in blocks(page):
        if block.kind == "sh no-run":
            assert re.match(r"no-run: \S", block.note), f"{block.place}: say why above: <!-- no-run: needs … -->"
        elif block.kind == "sh":
            for words in block.commands():
                assert words[0] == "img2img" or words[0] in NOT_RUN, f"{block.place}: {words[0]} is never run"
        elif block.kind == "yaml":
            assert block.file, f"{block.place}: name the file above, and use it in a command: <!-- file: mine.yaml -->"
        else:
            assert block.kind in ("python", "text"), f"{block.place}: no test runs {block.kind or 'a block of no kind'}"


# Running ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def reader(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The folder of a person who reads on, in which the photographs lie; also their home."""
    home = Path.cwd()
    for variable in ("HOME", "USERPROFILE"):
        monkeypatch.setenv(variable, str(home))
    monkeypatch.setattr(sys, "path", sys.path.copy())
    place = itertools.count()
    photograph = Image.open(STARTER / "val" / "wine-1.png").convert("RGB")
    for folder, names in FOLDERS.items():
        for name in names:
            save(piece(photograph, next(place)), home / folder / name)
    for name in NAMES[:4]:  # the same pictures in two folders
        picture = piece(photograph, next(place))
        save(picture, home / "want" / f"{name}.png")
        save(picture, home / "have" / f"{name}.jpg")
    for folder, masks in MASKS.items():
        images = [path for path in (home / folder).rglob("*") if path.is_file()]
        for path in images:
            save(white_square(), home / masks / path.relative_to(home / folder).with_suffix(".png"))
    imported = set(sys.modules)
    yield home
    for name in set(sys.modules) - imported:  # modules of the reader's own, whose names other tests may use too
        if (getattr(sys.modules[name], "__file__", None) or "").startswith(str(home)):
            del sys.modules[name]


def piece(photograph: Image.Image, n: int) -> Image.Image:
    left, top = 17 * n % (photograph.width - SIZE[0]), 29 * n % (photograph.height - SIZE[1])
    return photograph.crop((left, top, left + SIZE[0], top + SIZE[1]))


def white_square() -> Image.Image:
    mask = Image.new("L", SIZE)
    ImageDraw.Draw(mask).rectangle((20, 10, 40, 30), fill=255)
    return mask


def save(image: Image.Image, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_a_reader_can_type_what_a_page_says(page, reader, monkeypatch, capsys):
    sleep = time.sleep
    monkeypatch.setattr(time, "sleep", lambda seconds: stop() if seconds >= 60 else sleep(seconds))
    monkeypatch.setattr("img2img.training.sweep.subprocess", SimpleNamespace(Popen=trial_in_this_process))
    write_once(monkeypatch)
    for config, recipe in TRAINED.get(page.name, {}).items():
        folder = reader / "runs" / config / "0"
        folder.mkdir(parents=True)
        save_task(folder / "best.ckpt", img2img.build(recipe))
    namespace: dict[str, Any] = {}
    for block in blocks(page):
        if block.file is not None:
            (reader / block.file).write_text(block.text, encoding="utf-8")
        elif block.kind == "python":
            run(block.place, "python", lambda block=block: execute(block, namespace), capsys)
        elif block.kind == "sh":
            for words in block.commands():
                if words[0] not in NOT_RUN:
                    run(block.place, shlex.join(words), lambda words=words: type_in(words[1:]), capsys)


def stop() -> None:
    """What a reader does when `img2img watch` serves: Ctrl-C."""
    raise KeyboardInterrupt


def run(place: str, what: str, call: Callable[[], None], capsys: pytest.CaptureFixture[str]) -> None:
    try:
        call()
    except SystemExit as end:
        if end.code not in (None, 0):
            pytest.fail(f"{place}: {what} ends with {end.code}\n{capsys.readouterr().err}")
    except Exception as error:
        error.add_note(f"{place}: {what}")
        raise


def execute(block: Block, namespace: dict[str, Any]) -> None:
    text = block.text
    for large, small in PYTHON.items():
        text = text.replace(large, small)
    exec(compile(text, block.place, "exec"), namespace)


def type_in(arguments: list[str]) -> None:
    main([*arguments, *overrides(arguments)])
    command, options = arguments[0], arguments[1:]
    if command in OUTPUTS and "--dry_run" not in options:
        assert Path(options[OUTPUTS[command]]).exists(), f"{options[OUTPUTS[command]]} was not written"
    if command == "fit":
        name = Path(arguments[arguments.index("--config") + 1]).stem
        assert list(Path("runs", name).glob("*/last.ckpt"))
