"""Anomaly detection on magnetic tiles: every score, and PCA's, for every kind of defect.

    python -m benchmarks.magnetic_tiles magnetic_tile [--config anomaly] [--seeds 0 1 2] [--by-tile] [--maps DIR]

For each seed, 480 good tiles are for training, 40 are held out for the threshold, and the other 80 are scored with all
defective ones. The set shows most tiles three or four times, each time in different light and with consecutive numbers:
a random split has the same tile on both sides. `--by-tile` keeps all photographs of a tile together, as their numbers
tell; `--merge` also those that look alike though their numbers do not. `--given break 10` trains on 10 photographs of
`break`, of whole tiles, with their masks, and scores the others; `--flag=--data.defects=null` divides alike, and trains
without them.
"""

from __future__ import annotations

import argparse
import time
from functools import lru_cache
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import yaml
from numpy.typing import NDArray

from benchmarks.autoencoders import fit, machine, plus_minus
from img2img.anomaly.detection import PCA, PIXELS
from img2img.anomaly.scoring import Scores, score
from img2img.data.near_duplicates import KnownImages, fingerprint
from img2img.imaging.files import read_image
from img2img.training.preflight import find_config

AUTOENCODER = "anomaly_autoencoder"
DEFECTS = ("blowhole", "break", "uneven")
TRAINED, HELD_OUT = 480, 40
NEXT_TILE = 80  # largest gap between the numbers of a tile's photographs


def by_number(folder: Path) -> list[Path]:
    """Returns the photographs of a folder in the order of their numbers."""
    return sorted(folder.iterdir(), key=lambda path: int(path.stem.rpartition("_")[2]))


def tiles_of(paths: list[Path]) -> NDArray[np.intp]:
    """Returns the number of the tile that each photograph shows, from 0, by their own numbers, which ascend."""
    numbers = np.array([int(path.stem.rpartition("_")[2]) for path in paths])
    return np.cumsum(np.diff(numbers, prepend=numbers[0]) > NEXT_TILE)


@lru_cache
def merged_tiles(folder: Path) -> tuple[int, ...]:
    """Returns the same of the photographs of a folder, with tiles as one that have near-duplicates of each other."""
    paths = by_number(folder)
    tile = tiles_of(paths)
    prints = np.stack([fingerprint(read_image(path).pixels) for path in paths])
    before = -1
    while before != (before := len(np.unique(tile))):
        for one in np.unique(tile):
            others = np.flatnonzero(tile != one)
            known = KnownImages(prints[others])
            for print_ in prints[tile == one]:
                if (match := known.match(print_)) is not None:
                    tile[tile == one] = tile[others[match.number]]
                    break
    found = np.unique(tile, return_inverse=True)[1]
    print(f"{len(np.unique(tiles_of(paths)))} tiles by number, {found.max() + 1} after merging those that look alike")
    return tuple(found.tolist())


def divided(folder: Path, seed: int, by_tile: bool, merge: bool = False) -> list[list[Path]]:
    """Returns the good tiles to train on, those held out, and those to score; tiles have an order drawn by the seed.

    By number alone, the first and the second end at a photograph; with `merge` at a whole tile, with fewer photographs.
    """
    paths = by_number(folder / "good")
    tile = np.array(merged_tiles(folder / "good")) if merge else tiles_of(paths) if by_tile else np.arange(len(paths))
    place = np.random.default_rng(seed).permutation(int(tile.max()) + 1)[tile]
    order, ends = np.argsort(place, kind="stable"), np.array([TRAINED, TRAINED + HELD_OUT])
    if merge:
        ends = np.searchsorted(place[order], place[order][ends])
    return [[paths[i] for i in part] for part in np.split(order, ends)]


def with_defect(folder: Path, seed: int, given: int) -> tuple[list[Path], list[Path]]:
    """Returns the photographs of a kind of defect to train on, and those to score, none of the same tile.

    The first are `given` ones, of tiles drawn by the seed.
    """
    paths = by_number(folder)
    tile = tiles_of(paths)
    order = np.random.default_rng(seed).permutation(int(tile.max()) + 1)
    first = np.concatenate([np.flatnonzero(tile == one) for one in order])[:given]
    return [paths[i] for i in first], [paths[i] for i in np.flatnonzero(~np.isin(tile, tile[first]))]


def lay_out(options: argparse.Namespace, seed: int, work: Path) -> None:
    """Fills work/good/{train,val}, work/test/… and, with `--given`, work/given/… with links."""
    folder, good = options.folder, divided(options.folder, seed, options.by_tile, options.merge)
    parts = dict(zip(("good/train", "good/val", "test/good"), good, strict=True))
    kind, count = options.given or ("", 0)
    for defect in DEFECTS:
        given, scored = with_defect(folder / defect, seed, int(count) if defect == kind else 0)
        for where, paths in {"given": given, "test": scored}.items():
            parts[f"{where}/{defect}"] = paths
            parts[f"{where}/{defect}_masks"] = [folder / f"{defect}_masks" / f"{path.stem}.png" for path in paths]
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


def named(options: argparse.Namespace) -> str:
    """Returns how the good photographs are divided."""
    return "merged" if options.merge else "by_tile" if options.by_tile else "random"


def run(options: argparse.Namespace, seed: int) -> tuple[str, dict[str, dict[str, float]]]:
    """Returns the score that decides, and what one seed gives, see `measured`, with PCA's figures.

    A config without PCA gets that of an autoencoder after one step: its calibration fits PCA, however it is trained.
    """
    with TemporaryDirectory() as work:
        lay_out(options, seed, Path(work))
        good, test = Path(work) / "good", Path(work) / "test"
        how = [named(options), *(options.given or []), str(seed)]
        runs = options.runs / "_".join(how)
        real = [] if options.given is None else [f"--data.defects={Path(work) / 'given'}"]
        trained = fit(f"{options.config}.yaml", good, options.steps, seed, runs, [*real, *options.flag])
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
    parser.add_argument("--merge", action="store_true", help="the same, also where only the photographs tell")
    parser.add_argument("--given", nargs=2, metavar=("KIND", "N"), help="photographs of a kind of defect to train on")
    parser.add_argument("--maps", type=Path, help="folder for the first seed's heat maps")
    parser.add_argument(
        "--runs",
        type=Path,
        default=Path("runs/tiles"),
        help="finished runs here are not trained again, with any --flag",
    )
    parser.add_argument("--flag", action="append", default=[], help="of img2img fit, such as --flag=--model.lr=1e-3")
    options = parser.parse_args()
    if options.given is not None and options.given[0] not in DEFECTS:
        parser.error(f"--given takes a kind of defect, one of {', '.join(DEFECTS)}, and a number")
    if options.steps is None:
        options.steps = yaml.safe_load(find_config(options.config).read_text())["trainer"]["max_steps"]
    begun = time.perf_counter()
    decides, tables = zip(*(run(options, seed) for seed in options.seeds), strict=True)
    print(f"AUROC, divided {named(options).replace('_', ' ')}, seeds {options.seeds}")
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
