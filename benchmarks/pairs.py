"""How many training pairs per second the data pipeline makes, compared with a hand-written pipeline.

By hand: a dataset that decodes the image (OpenCV) for each crop, then runs the same albumentations transforms, and
PyTorch's own collation. Both run in the main process, in turns, on the same folder, which stands for both folders of
`pairs.yaml`. The cache of decoded images is filled first; the time that this takes is printed.

    python benchmarks/pairs.py FOLDER [FOLDER …] [--seconds 3] [--repeats 3] [--only denoise …]
"""

from __future__ import annotations

import argparse
import os
import random
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import albumentations
import cv2
import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from img2img.data import FolderPairs
from img2img.data.pairs import collate
from img2img.shipped import shipped_configs
from img2img.training.from_config import task_and_data


class ByHand(Dataset[dict[str, torch.Tensor]]):
    """The dataset that people write by hand."""

    def __init__(self, paths: list[Path], data: Any) -> None:
        self.paths, self.gray, self.two_files = paths, data.channels == 1, isinstance(data, FolderPairs)
        self.geometry = albumentations.Compose(data.geometry, additional_targets={"image2": "image"})
        self.corruption = albumentations.Compose([] if self.two_files else data.corruption)

    def __len__(self) -> int:
        return len(self.paths)

    def read(self, path: Path) -> np.ndarray:
        """Decodes an image."""
        if self.gray:
            return cv2.imread(str(path), cv2.IMREAD_GRAYSCALE)[..., None]
        return cv2.cvtColor(cv2.imread(str(path)), cv2.COLOR_BGR2RGB)

    def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
        path = self.paths[index]
        images = {"image": self.read(path)} | ({"image2": self.read(path)} if self.two_files else {})
        crops = {name: crop.astype(np.float32) / 255 for name, crop in self.geometry(**images).items()}
        target = crops["image"]
        mask = np.zeros(target.shape[:2], np.uint8)
        done = self.corruption(image=crops.get("image2", target).copy(), mask=mask)
        pictures = {"input": np.atleast_3d(done["image"]), "target": target}
        tensors = {name: torch.from_numpy(image.transpose(2, 0, 1).copy()) for name, image in pictures.items()}
        return tensors | {"mask": torch.from_numpy(done["mask"])}


def endless(batches: Callable[[], Any]) -> Iterator[Any]:
    """Yields batches, epoch after epoch."""
    while True:
        yield from batches()


def speed(batches: Iterator[Any], seconds: float) -> float:
    """Returns pairs per second, measured over some seconds after two batches to warm up."""
    next(batches), next(batches)
    count, start = 0, time.perf_counter()
    while (elapsed := time.perf_counter() - start) < seconds:
        count += len(next(batches)["input"])
    return count / elapsed


def compare(config: Path, folder: str, seconds: float, repeats: int) -> str:
    """Returns a line of the table."""
    two = config.name == "pairs.yaml"
    roots = [f"--data.input_root={folder}", f"--data.target_root={folder}"] if two else [f"--data.root={folder}"]
    _, data = task_and_data(config, roots)
    start = time.perf_counter()
    data.prepare_data()
    data.setup("fit")
    filling = time.perf_counter() - start
    pairs = data.training_pairs()
    numbers = iter(range(10**9))
    ours = DataLoader(pairs, batch_size=data.batch_size, sampler=numbers, collate_fn=collate)  # type: ignore[arg-type]
    hand = DataLoader(ByHand(list(pairs.source.paths), data), data.batch_size, shuffle=True)
    streams = iter(ours), endless(lambda: hand)
    measured = [[speed(stream, seconds) for stream in streams] for _ in range(repeats)]
    mine, theirs = (statistics.median(column) for column in zip(*measured, strict=True))
    ratio = statistics.median(a / b for a, b in measured)
    return f"{config.stem:24} {mine:10.0f} {theirs:10.0f} {ratio:8.1f} {filling:12.1f}"


def main() -> None:
    """Prints a table for each folder."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("folders", nargs="+")
    parser.add_argument("--seconds", type=float, default=3.0)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--only", nargs="+", help="configs, by name")
    options = parser.parse_args()
    random.seed(0)
    torch.manual_seed(0)
    for folder in options.folders:
        print(f"\n{folder}\n{'config':24} {'img2img':>10} {'by hand':>10} {'ratio':>8} {'cache filled':>12}")
        print(f"{'':24} {'pairs/s':>10} {'pairs/s':>10} {'':8} {'s':>12}")
        for config in shipped_configs():
            if options.only is None or config.stem in options.only:
                with tempfile.TemporaryDirectory() as cache:  # an empty one, so that filling it can be timed
                    os.environ["IMG2IMG_CACHE"] = cache
                    print(compare(config, folder, options.seconds, options.repeats), flush=True)


if __name__ == "__main__":
    main()
