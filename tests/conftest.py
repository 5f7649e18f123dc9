"""Small real photographs, a cache of the tests' own, and the program run in this process."""

from __future__ import annotations

import gc
import os
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.inference.browser import COMMAND, Browser

# Tests run in as many processes as there are cores; before torch is imported, and for the processes that tests start.
os.environ.setdefault("OMP_NUM_THREADS", "1")
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # a shell ignores Ctrl-C in what it starts with &
    signal.signal(signal.SIGINT, signal.default_int_handler)
STARTER = Path(__file__).parent.parent / "data" / "starter"
TINY = [
    "--model.network.init_args.channels=[8,8]",
    "--model.network.init_args.blocks=1",
    "--data.crop_size=16",
    "--data.batch_size=2",
    "--trainer.accelerator=cpu",
    "--trainer.enable_progress_bar=false",
]
"""Flags that make any run of ours take a second."""
LONGEST = {
    *("test_docs.py", "test_train.py", "test_shipped_configs.py", "test_distributed.py", "test_sweep.py"),
    *("test_exporting.py", "test_engines.py", "test_interrupted_fit.py", "test_long_runs.py"),
}
"""Files of tests."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Puts the files that take longest first: started last, they would leave the other processes without work."""
    items.sort(key=lambda item: item.path.name not in LONGEST)


def pytest_collection_finish() -> None:
    """Lets the garbage collector forget what was imported: to look through it again and again takes 1 s in 20."""
    gc.freeze()
    gc.set_threshold(20_000, 20, 50)


@pytest.fixture(autouse=True)
def _sandbox(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Each test works in an empty folder and knows no module of another's; all share one cache, not the user's."""
    base = tmp_path_factory.getbasetemp()
    monkeypatch.setenv("IMG2IMG_CACHE", str(base / "cache"))
    monkeypatch.delenv("IMG2IMG_RUN", raising=False)
    monkeypatch.chdir(tmp_path_factory.mktemp("here"))
    known = set(sys.modules)
    yield
    for name in set(sys.modules) - known:  # to look at all of them would take longer than most tests
        if (file := getattr(sys.modules[name], "__file__", None)) and Path(file).is_relative_to(base):
            del sys.modules[name]


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    """A real browser, for pages that the program writes; tests that need it are skipped without one."""
    if COMMAND is None:
        pytest.skip("no Chromium on this machine")
    browser = Browser(tmp_path_factory.mktemp("browser"))
    yield browser
    browser.close()


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """A folder train/ val/ test/ of small pieces of the starter photographs: 6, 2 and 2 images of 64×48."""
    root = tmp_path / "photos"
    for split, count in (("train", 6), ("val", 2), ("test", 2)):
        (root / split).mkdir(parents=True)
        for source in sorted((STARTER / split).glob("*.png"))[:count]:
            Image.open(source).crop((100, 100, 164, 148)).save(root / split / source.name)
    return root


@pytest.fixture
def photo() -> np.ndarray:
    """A real photograph, 320×320×3 uint8."""
    return np.array(Image.open(STARTER / "val" / "wine-1.png").convert("RGB"))


@pytest.fixture
def data_flags(photos: Path, tmp_path: Path) -> Callable[[str], list[str]]:
    """Flags that let a config run on the small photographs: as pairs with JPEG copies where it wants two folders."""

    def flags(config: str) -> list[str]:
        if Path(config).name != "pairs.yaml":
            return [f"--data.root={photos}"]
        for source in photos.rglob("*.png"):
            copy = tmp_path / "jpeg" / source.relative_to(photos).with_suffix(".jpg")
            copy.parent.mkdir(parents=True, exist_ok=True)
            Image.open(source).save(copy, quality=20)
        return [f"--data.input_root={tmp_path / 'jpeg'}", f"--data.target_root={photos}"]

    return flags


@pytest.fixture
def program(data_flags: Callable[[str], list[str]]) -> Callable[..., None]:
    """Runs `img2img COMMAND …` in this process on the small photographs with a tiny network."""
    from img2img.cli import main

    def run(command: str, *flags: str, config: str = "denoise.yaml") -> None:
        main([command, "--config", config, *TINY, *data_flags(config), *flags])

    return run


@pytest.fixture
def checkpoint(program: Callable[..., None]) -> Path:
    """The best checkpoint of a run of two steps."""
    program("fit", "--trainer.max_steps=2")
    return Path("runs/denoise/0/best.ckpt").resolve()
