"""Whether a model of faces takes tiles for abnormal, and new people for faces.

    python -m benchmarks.strangers orl_faces magnetic_tile [--smiles smiles] [--seeds 0 1 2]

For each seed, trains `anomaly_autoencoder.yaml` on seven photographs of each of people 1 to 30; an eighth is held out
for the threshold. The other two are scored, with all of people 31 to 40, and with good magnetic tiles. Prints how well
each score, and PCA's, tells tiles, new people and, of another set, the `--smiles`, from the known people's photographs:
tiles should be abnormal (an AUROC of 0.99 or more), and new people not (0.7 or less).
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

from benchmarks.autoencoders import fit, machine, plus_minus
from img2img.anomaly.detection import detection
from img2img.anomaly.scoring import Scores, score
from img2img.data.splits import spread

KNOWN = 30
TRAINED, HELD_OUT = 7, 1
MOST = 100  # of tiles, and of smiles


def lay_out(options: argparse.Namespace, seed: int, work: Path) -> None:
    """Fills work/faces/{train,val} and work/test/{known,new,tiles,smiles} with links."""
    draw, parts = np.random.default_rng(seed), {name: [] for name in ("train", "val", "known", "new")}
    for person in sorted(options.faces.iterdir()):
        photos = sorted(person.iterdir())
        if int(person.name.removeprefix("s")) > KNOWN:
            parts["new"] += photos
            continue
        order = [photos[i] for i in draw.permutation(len(photos))]
        for name, of_person in zip(
            ("train", "val", "known"), np.split(order, [TRAINED, TRAINED + HELD_OUT]), strict=True
        ):
            parts[name] += list(of_person)
    parts["tiles"] = few(options.tiles / "good")
    if options.smiles is not None:
        parts["smiles"] = few(options.smiles)
    for name, paths in parts.items():
        folder = work / ("faces" if name in ("train", "val") else "test") / name
        folder.mkdir(parents=True)
        for i, path in enumerate(paths):
            (folder / f"{i:03}_{path.parent.name}_{path.name}").symlink_to(path.resolve())


def few(folder: Path) -> list[Path]:
    """Returns at most `MOST` images below a folder, evenly spread."""
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    return [paths[i] for i in spread(len(paths), MOST)]


def run(options: argparse.Namespace, seed: int) -> Scores:
    """Returns the scores of one seed's model."""
    with TemporaryDirectory() as work:
        lay_out(options, seed, Path(work))
        trained = fit("anomaly_autoencoder.yaml", Path(work) / "faces", options.steps, seed, options.runs / str(seed))
        return score(Path(work) / "test", None, trained / "last.ckpt", normal=["known"])


def main() -> None:
    """Trains with each seed and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("faces", type=Path, help="with s1/ to s40/, such as orl_faces")
    parser.add_argument("tiles", type=Path, help="with good/, such as magnetic_tile")
    parser.add_argument("--smiles", type=Path, help="faces of another set")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--steps", type=int, default=260, help="default: the config's")
    parser.add_argument("--runs", type=Path, default=Path("runs/strangers"), help="finished runs are not trained again")
    options = parser.parse_args()
    begun = time.perf_counter()
    found = [run(options, seed) for seed in options.seeds]
    groups = [group for group in ("tiles", "new", "smiles") if group in found[0].table]
    print(f"AUROC against known people's held-out photographs, seeds {options.seeds}")
    print(f"{'':18}" + "".join(f"  {group:15}" for group in groups))
    for name in found[0].names:
        columns = [[scores.table[group][name].auroc for scores in found] for group in groups]
        print(f"{name:18}" + "".join(f"  {plus_minus(column, 3):15}" for column in columns))
    deciding = found[0].recommended
    faces = [detection(scores.rows, [deciding], {"known", "new"})["tiles"][deciding].auroc for scores in found]
    print(f"tiles among all these people, by {deciding}: {plus_minus(faces, 3)}")
    for group in ("known", *groups):
        shares = [np.mean([row["abnormal"] for row in scores.rows if row["label"] == group]) for scores in found]
        print(f"{group}: {plus_minus(shares, 3)} above the threshold of {deciding}")
    print(f"{options.steps} steps each; {time.perf_counter() - begun:.0f} s; {machine()}")


if __name__ == "__main__":
    main()
