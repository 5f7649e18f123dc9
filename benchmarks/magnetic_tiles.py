"""Anomaly detection on magnetic tiles: every score, and PCA's, for every kind of defect.

    python -m benchmarks.magnetic_tiles magnetic_tile [--config anomaly] [--seeds 0 1 2] [--by-tile] [--maps DIR]

For each seed, 480 good tiles are for training, 40 are held out for the threshold, and the other 80 are scored with all
defective ones. The set shows most tiles three or four times, each time in different light and with consecutive numbers:
a random split has the same tile on both sides. `--by-tile` keeps all photographs of a tile together.
"""

from __future__ import annotations

import argparse
import re
import time
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import yaml

from benchmarks.autoencoders import fit, machine, plus_minus
from img2img.anomaly.detection import PCA, PIXELS
from img2img.anomaly.scoring import Scores, score
from img2img.training.preflight import find_config

AUTOENCODER = "anomaly_autoencoder"
DEFECTS = ("blowhole", "break", "uneven")
TRAINED, HELD_OUT = 480, 40
NEXT_TILE = 80  # largest gap between the numbers of a tile's photographs


def divided(folder: Path, seed: int, by_tile: bool) -> list[Path]:
    """Returns the good tiles in an order drawn by the seed, those to train on first."""
    paths = sorted((folder / "good").iterdir(), key=lambda path: int(re.sub(r"\D*\d+_num_", "", path.stem)))
    numbers = np.array([int(path.stem.rpartition("_")[2]) for path in paths])
    new_tile = np.diff(numbers, prepend=numbers[0]) > NEXT_TILE
    tile = np.cumsum(new_tile) if by_tile else np.arange(len(paths))
    place = np.random.default_rng(seed).permutation(int(tile.max()) + 1)
    return [paths[i] for i in np.argsort(place[tile], kind="stable")]


def lay_out(folder: Path, seed: int, by_tile: bool, work: Path) -> None:
    """Fills work/good/{train,val} and work/test/… with links."""
    tiles = divided(folder, seed, by_tile)
    parts = {"good/train": tiles[:TRAINED], "good/val": tiles[TRAINED : TRAINED + HELD_OUT]}
    parts["test/good"] = tiles[TRAINED + HELD_OUT :]
    for defect in DEFECTS:
        parts[f"test/{defect}"] = sorted((folder / defect).iterdir())
        parts[f"test/{defect}_masks"] = sorted((folder / f"{defect}_masks").iterdir())
    for part, paths in parts.items():
        (work / part).mkdir(parents=True)
        for path in paths:
            (work / part / path.name).symlink_to(path.resolve())


def measured(scores: Scores) -> dict[str, dict[str, float]]:
    """Returns the AUROC of each score and of the maps' pixels, the maps' AUPRO, and the F1 of the recommended score.

    The result is by kind of defect, then by name.
    """
    table: dict[str, dict[str, float]] = {}
    for label, row in scores.table.items():
        found = {name: quality.auroc for name, quality in row.items()}
        found |= {f"{name} AUPRO": quality.aupro for name, quality in row.items() if quality.aupro is not None}
        decided = row[scores.recommended].at_threshold
        table[label] = found | ({} if decided is None else {f"{scores.recommended} F1": decided.f1})
    return table


def run(options: argparse.Namespace, seed: int) -> tuple[str, dict[str, dict[str, float]]]:
    """Returns the score that decides, and what one seed gives, see `measured`, with PCA's figures.

    A config without PCA gets that of an autoencoder after one step: its calibration fits PCA, however it is trained.
    """
    with TemporaryDirectory() as work:
        lay_out(options.folder, seed, options.by_tile, Path(work))
        good, test = Path(work) / "good", Path(work) / "test"
        runs = options.runs / f"{'by_tile' if options.by_tile else 'random'}_{seed}"
        trained = fit(f"{options.config}.yaml", good, options.steps, seed, runs, options.flag)
        maps = None if options.maps is None or seed != options.seeds[0] else options.maps
        scores = score(test, None, trained / "last.ckpt", maps=maps)
        table = measured(scores)
        if not any(name.startswith(PCA) for name in table[DEFECTS[0]]):
            fitted = fit(f"{AUTOENCODER}.yaml", good, 1, seed, runs / "pca")
            for label, row in measured(score(test, None, fitted / "last.ckpt")).items():
                table[label] |= {name: value for name, value in row.items() if name.startswith(PCA)}
    return scores.recommended, table


def main() -> None:
    """Trains with each seed and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, help="with good/, blowhole/, blowhole_masks/ …")
    parser.add_argument("--config", choices=("anomaly", AUTOENCODER), default="anomaly")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--steps", type=int, help="default: the config's")
    parser.add_argument("--by-tile", action="store_true", help="all photographs of a tile on one side")
    parser.add_argument("--maps", type=Path, help="folder for the first seed's heat maps")
    parser.add_argument(
        "--runs",
        type=Path,
        default=Path("runs/tiles"),
        help="finished runs here are not trained again, with any --flag",
    )
    parser.add_argument("--flag", action="append", default=[], help="of img2img fit, such as --flag=--model.lr=1e-3")
    options = parser.parse_args()
    if options.steps is None:
        options.steps = yaml.safe_load(find_config(options.config).read_text())["trainer"]["max_steps"]
    begun = time.perf_counter()
    decides, tables = zip(*(run(options, seed) for seed in options.seeds), strict=True)
    print(f"AUROC, {'divided by tile' if options.by_tile else 'divided at random'}, seeds {options.seeds}")
    means: dict[str, list[float]] = {}
    for name in tables[0][DEFECTS[0]]:
        columns = [[table[defect][name] for table in tables] for defect in DEFECTS if name in tables[0][defect]]
        means[name] = list(np.mean(columns, axis=0))
        print(f"{name:18}" + "".join(f"  {plus_minus(column, 3):15}" for column in (*columns, means[name])))
    print(f"{'':18}" + "".join(f"  {head:15}" for head in (*DEFECTS, "mean")))
    names = [name for name in means if name.startswith(PCA) and not name.startswith(PCA + PIXELS)]
    linear = max(names, key=lambda name: float(np.mean(means[name])))
    gains = [own - theirs for own, theirs in zip(means[decides[0]], means[linear], strict=True)]
    print(f"{decides[0]} above {linear}, the best of PCA: {plus_minus(gains, 3)}")
    print(f"{options.steps} steps each; {time.perf_counter() - begun:.0f} s; {machine()}")


if __name__ == "__main__":
    main()
