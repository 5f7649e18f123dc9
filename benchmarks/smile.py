"""Adds a smile to faces: how often a classifier trained on other images sees it, and how much the face changes.

    python -m benchmarks.smile smiles [--strengths 0 1 2 3] [--sheet smiles.png]

For each seed, which also divides the folder, `autoencode.yaml` is trained as in `benchmarks.faces`, without labels.
Every second training face is for the direction of `img2img edit`; the others train the judge, a small convolutional
network. Held-out neutral faces are edited by the command, files in and files out, and judged again; strength 0 shows
what reading and writing alone does. The error towards the input is the root mean squared difference of a face, averaged
over all faces; the same between any two people's faces is printed for comparison. The set does not say who is who: a
person may be on both sides of the split.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from benchmarks.autoencoders import data_of, machine, paths_of, plus_minus
from benchmarks.faces import SIZE
from benchmarks.faces import run as trained
from img2img import edit
from img2img.imaging.drawing import draw_sheet
from img2img.imaging.files import Image, write_image

WITHOUT, WITH = "neutral", "smile"
SHOWN = 8
EPOCHS = 15

Faces = NDArray[np.uint8]


def read(paths: list[Path]) -> Faces:
    """Returns gray images N×H×W."""
    return np.stack([cv2.imread(str(path), cv2.IMREAD_GRAYSCALE) for path in paths])


def link(paths: list[Path], folder: Path) -> Path:
    """Makes a folder of links to images, whose names must all differ."""
    folder.mkdir()
    for path in paths:
        (folder / path.name).symlink_to(path.resolve())
    return folder


def judge_of(faces: dict[str, list[Path]]) -> nn.Module:
    """Returns a classifier of faces N×1×H×W in [0, 1], whose output is above 0 for those with the attribute."""
    torch.manual_seed(0)
    images = torch.from_numpy(np.concatenate([read(faces[name]) for name in (WITHOUT, WITH)])[:, None] / 255).float()
    labels = torch.cat([torch.full((len(faces[name]),), float(name == WITH)) for name in (WITHOUT, WITH)])
    levels = [
        (nn.Conv2d(fine, coarse, 3, padding=1), nn.BatchNorm2d(coarse), nn.ReLU(), nn.MaxPool2d(2))
        for fine, coarse in ((1, 16), (16, 32), (32, 64), (64, 64))
    ]
    layers = [layer for level in levels for layer in level]
    judge = nn.Sequential(*layers, nn.Flatten(), nn.Dropout(0.5), nn.Linear(64 * 16, 1), nn.Flatten(0))
    optimizer = torch.optim.AdamW(judge.parameters(), lr=1e-3, weight_decay=0.05)
    for _ in range(EPOCHS):
        for batch in torch.randperm(len(images)).split(64):
            seen = images[batch].flip(-1) if torch.rand(()) < 0.5 else images[batch]
            loss = nn.functional.binary_cross_entropy_with_logits(judge(seen), labels[batch])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    return judge.eval()


@torch.inference_mode()
def judged_smiling(judge: nn.Module, faces: Faces) -> float:
    """Returns the fraction of faces in which the judge sees the attribute."""
    return float((judge(torch.from_numpy(faces[:, None] / 255).float()) > 0).float().mean())


def between_people(faces: Faces) -> float:
    """Returns the root mean squared difference of two faces, averaged over all pairs."""
    flat = faces.reshape(len(faces), -1).astype(np.float64) / 255
    first, second = np.triu_indices(len(flat), 1)
    return float(np.mean([np.sqrt(((flat[i] - flat[j]) ** 2).mean()) for i, j in zip(first, second, strict=True)]))


def by_label(paths: list[Path]) -> dict[str, list[Path]]:
    """Returns the paths by the name of their folder."""
    return {name: [path for path in paths if path.parent.name == name] for name in (WITHOUT, WITH)}


def measure(options: argparse.Namespace, seed: int) -> dict[str, Any]:
    """Returns the judge's accuracy, and per strength the fraction judged smiling and the error, with one seed."""
    data = data_of(options.folder, SIZE, seed)
    training, held_out = by_label(paths_of(data, "train")), by_label(paths_of(data, "test"))
    model = trained("autoencode.yaml", options, options.latents, seed) / "best.ckpt"
    judge = judge_of({name: paths[1::2] for name, paths in training.items()})
    faces = {name: read(paths) for name, paths in held_out.items()}
    before = {name: judged_smiling(judge, images) for name, images in faces.items()}
    found: dict[str, Any] = {"between": between_people(faces[WITHOUT]), "before": before, "rows": [faces[WITHOUT]]}
    with TemporaryDirectory() as name:
        work = Path(name)
        start, end = (link(training[label][::2], work / f"{label}_known") for label in (WITHOUT, WITH))
        source = link(held_out[WITHOUT], work / "faces")
        for strength in options.strengths:
            output = work / f"edited_{strength}"
            edit(source, output, model, start, end, strength, options.direction)
            edited = read([output / path.name for path in held_out[WITHOUT]])
            difference = (edited / 255 - faces[WITHOUT] / 255).reshape(len(edited), -1)
            error = np.sqrt((difference**2).mean(1)).mean()
            found[strength] = (judged_smiling(judge, edited), float(error))
            found["rows"].append(edited)
    return found


def draw(rows: list[Faces], strengths: list[float]) -> NDArray[np.uint8]:
    """Draws the first faces in a row, and below them the same faces at every strength."""
    names = ["as it is", *(f"strength {strength:g}" for strength in strengths)]
    captions = [name if i == 0 else "" for name in names for i in range(SHOWN)]
    images = np.concatenate([row[:SHOWN] for row in rows])[:, None]
    return draw_sheet(torch.from_numpy(images / 255).float(), SHOWN, captions)


def main() -> None:
    """Trains what is missing, edits and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, help="with neutral/ and smile/, such as smiles")
    parser.add_argument("--latents", type=int, default=32)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--strengths", type=float, nargs="+", default=[0.0, 1.0, 2.0, 3.0])
    parser.add_argument("--direction", default="mean", choices=("mean", "classifier"))
    parser.add_argument("--steps", type=int, default=1500)
    parser.add_argument("--runs", type=Path, default=Path("runs/faces"), help="as for benchmarks.faces")
    parser.add_argument("--sheet", type=Path, help="draws the first seed's first faces")
    options = parser.parse_args()
    begun = time.perf_counter()
    found = [measure(options, seed) for seed in options.seeds]
    before = [each["before"] for each in found]
    print(f"judged smiling, of held-out {WITH}: {plus_minus([each[WITH] for each in before], 3)}")
    print(f"judged smiling, of held-out {WITHOUT}: {plus_minus([each[WITHOUT] for each in before], 3)}")
    print(f"difference between two people: {plus_minus([each['between'] for each in found])}")
    for strength in options.strengths:
        shares, errors = zip(*(each[strength] for each in found), strict=True)
        print(
            f"strength {strength:g}: judged smiling {plus_minus(shares, 3)}, error towards input {plus_minus(errors)}"
        )
    if options.sheet is not None:
        write_image(options.sheet, Image(draw(found[0]["rows"], options.strengths), None, {}))
    print(f"direction {options.direction}, seeds {options.seeds}, {len(found[0]['rows'][0])} faces each")
    print(f"{time.perf_counter() - begun:.0f} s; {machine()}")


if __name__ == "__main__":
    main()
