"""How much memory `img2img restore --memory` takes for files that stand for much more than they weigh.

    python benchmarks/memory_bombs.py [--memory 1500MB] [WORD …]

Makes each image or checkpoint in a temporary folder (1 GB at most at a time), gives it to the program in a process of
its own, with a small network, and prints that process's peak resident memory (what `/usr/bin/time -v` shows), its exit
code, and what it said of the file. A file may be restored within the limit or refused in one line; the first row, of a
photograph of 48 × 48 pixels, shows what the program takes in any case. The exit code is 1 if a peak exceeds the limit,
or a process did not end by itself. Words choose the files whose names hold one of them.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Callable
from pathlib import Path

import pyvips
from PIL import Image

from benchmarks.attacks.kit import photo
from img2img.inference.options import parse_size
from tests.commands.models import FILLING, save_model
from tests.imaging.samples import rle_bmp
from tests.tasks.forged import archive, call, dictionary, plain, tensor

SECONDS = 1500
"""A minute for each 10 megapixels: the network is small, but not the images."""
SIDE = 12_000
ENVIRONMENT = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(Path(__file__).parents[1])}


def main() -> None:
    """Gives the files to the program, and prints the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("words", nargs="*")
    parser.add_argument("--memory", default="1500MB")
    parser.add_argument("--prepare", help="make this file in the working directory, and print the options")
    options = parser.parse_args()
    if options.prepare is not None:
        print(json.dumps(prepare(options.prepare)))
        return
    limit, wrong = parse_size(options.memory) or 0, False
    chosen = {n: each for n, each in FILES.items() if not options.words or any(w in n for w in options.words)}
    print(f"--memory {options.memory}\n{'':44}{'MB':>8}{'peak GB':>9}{'seconds':>9}{'exit':>6}")
    for name in chosen:
        with tempfile.TemporaryDirectory() as folder:
            # In a process of its own: a new process counts what its parent took as its own.
            made = subprocess.run(
                [sys.executable, __file__, "--prepare", name],
                cwd=folder,
                env=ENVIRONMENT,
                check=True,
                stdout=subprocess.PIPE,
            )
            size = max(path.stat().st_size for path in Path(folder).rglob("*") if path.is_file()) / 1e6
            os.chdir(folder)
            peak, seconds, code, said = measure(["--memory", options.memory, *json.loads(made.stdout)])
            os.chdir("/")
        bad = peak > limit or code not in (0, 1, 2) or "Traceback" in said
        wrong |= bad
        shown = f"{name:44}{size:8.1f}{peak / 1e9:9.2f}{seconds:9.0f}{code:6}{'  WRONG' if bad else ''}"
        print(f"{shown}\n    {said}", flush=True)
    sys.exit(wrong)


def prepare(name: str) -> list[str]:
    """Makes a folder of one small photograph and a model, then what is hostile; returns more options."""
    Path("in").mkdir()
    Path("in/small.png").write_bytes(photo())
    save_model(Path("model.ckpt"))
    return FILES[name]() or []


def measure(more: list[str]) -> tuple[int, float, int, str]:
    """Restores; returns the peak in bytes, the seconds, the exit code and the line about the file."""
    fixed = ["--model", "model.ckpt", "--accelerator", "cpu", "--precision", "32-true"]
    command = [sys.executable, "-m", "img2img", "restore", "in", "out", *fixed, *more]
    said, began = os.open("said", os.O_CREAT | os.O_RDWR), time.monotonic()
    child = os.posix_spawn(
        sys.executable, command, ENVIRONMENT, file_actions=[(os.POSIX_SPAWN_DUP2, said, number) for number in (1, 2)]
    )
    done = 0
    while not done:
        done, status, usage = os.wait4(child, os.WNOHANG)
        time.sleep(0.1)
        if time.monotonic() - began > SECONDS:
            os.kill(child, 9)
    lines = [line for line in Path("said").read_text(errors="replace").splitlines() if line.strip()]
    told = next(
        (hits for word in ("Traceback", " GB ", "error") if (hits := [x for x in lines if word in x])), lines[-1:]
    )
    code = os.waitstatus_to_exitcode(status)
    return usage.ru_maxrss * 1024, time.monotonic() - began, code, (told or [""])[0].strip()


# Images -----------------------------------------------------------------------------------------------------------


def picture(name: str, side: int = SIDE, bands: int = 3, **options: object) -> None:
    """Writes side × side pixels, a wave of little content, by libvips."""
    ramp = pyvips.Image.xyz(side, side)[0] % 251
    image = (ramp if bands == 1 else ramp.bandjoin([ramp + 1, ramp + 2])).cast("uchar")
    image = image.copy(interpretation="b-w" if bands == 1 else "srgb")
    Path(name).parent.mkdir(exist_ok=True)
    image.write_to_file(name, **options)


def bomb(name: str, side: int) -> None:
    """Writes a BMP of hundreds of bytes."""
    Path(name).parent.mkdir(exist_ok=True)
    Path(name).write_bytes(rle_bmp(side))


def plain_bmp(name: str) -> None:
    """Writes a BMP of 600 MB, most of which takes no room on the disk."""
    side = 14_144
    Image.new("RGB", (1, 1)).save(name)
    head = bytearray(Path(name).read_bytes()[:54])
    head[18:26] = side.to_bytes(4, "little") * 2
    head[2:6] = head[34:38] = (3 * side * side).to_bytes(4, "little")
    with open(name, "wb") as file:
        file.write(head)
        file.truncate(54 + 3 * side * side)


def text_pgm(name: str, side: int, per_line: int) -> None:
    """Writes a PGM as text, with this many samples on a line."""
    line = (b"255 " * per_line).rstrip() + b"\n"
    with open(name, "wb") as file:
        file.write(b"P2\n%d %d\n255\n" % (side, side))
        for _ in range(side * side // per_line):
            file.write(line)


def turned(name: str, side: int) -> None:
    """Writes a JPEG that is stored on its side, and so is turned before its first row is known."""
    picture("flat.jpg", side)
    pixels = Image.open("flat.jpg")
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.MAX_IMAGE_PIXELS = None
    pixels.save(name, exif=exif)
    Path("flat.jpg").unlink()


def with_page(image: Callable[[], None]) -> list[str]:
    """Returns the options for a page with pictures of an image."""
    image()
    return ["--html"]


def with_mask(mask: Callable[[], None], side: int) -> list[str]:
    """Returns the options for a model that fills holes, with a large image and its mask."""
    save_model(Path("model.ckpt"), recipe=FILLING)
    Path("in/small.png").unlink()
    picture("in/large.png", side)
    Path("masks").mkdir()
    mask()
    return ["--mask", "masks"]


def with_reference(reference: Callable[[], None], side: int) -> list[str]:
    """Returns the options for a reference of a large image."""
    picture("in/large.png", side)
    Path("references").mkdir()
    reference()
    return ["--reference", "references"]


# Checkpoints ------------------------------------------------------------------------------------------------------


def forged(body: bytes, compression: int = zipfile.ZIP_STORED, **records: bytes) -> None:
    """Writes a checkpoint whose pickle is made by hand."""
    archive(Path("model.ckpt"), body, compression, **records)


FILES: dict[str, Callable[[], list[str] | None]] = {
    "nothing": lambda: None,
    "image: RLE BMP 20000²": lambda: bomb("in/bomb.bmp", 20_000),
    "image: BMP of 600 MB": lambda: plain_bmp("in/bomb.bmp"),
    "image: BMP of 600 MB, --html": lambda: with_page(lambda: plain_bmp("in/bomb.bmp")),
    "image: text PGM 12000², a row a line": lambda: text_pgm("in/bomb.pgm", SIDE, SIDE),
    "image: text PGM 12000², all in one line": lambda: text_pgm("in/bomb.pgm", SIDE, SIDE * SIDE // 10),
    "image: progressive JPEG 12000²": lambda: picture("in/bomb.jpg", interlace=True, Q=50),
    "image: progressive JPEG 8000², --html": lambda: with_page(lambda: picture("in/a.jpg", 8000, interlace=True)),
    "image: interlaced PNG 12000²": lambda: picture("in/bomb.png", interlace=True),
    "image: interlaced PNG 8000², --html": lambda: with_page(lambda: picture("in/a.png", 8000, interlace=True)),
    "image: WebP 12000²": lambda: picture("in/bomb.webp", lossless=True, effort=0),
    "image: WebP 2300², --html": lambda: with_page(lambda: picture("in/a.webp", 2300, Q=50)),
    "image: JPEG 9000² on its side": lambda: turned("in/bomb.jpg", 9000),
    "mask: RLE BMP 12000²": lambda: with_mask(lambda: bomb("masks/large.bmp", SIDE), SIDE),
    "mask: WebP 5000²": lambda: with_mask(lambda: picture("masks/large.webp", 5000, Q=50), 5000),
    "mask: interlaced PNG 8000²": lambda: with_mask(lambda: picture("masks/large.png", 8000, 1, interlace=True), 8000),
    "reference: RLE BMP 20000² of 7000²": lambda: with_reference(lambda: bomb("references/large.bmp", 20_000), 7000),
    "reference: RLE BMP 10000²": lambda: with_reference(lambda: bomb("references/large.bmp", 10_000), 10_000),
    "reference: interlaced PNG 7000²": lambda: with_reference(
        lambda: picture("references/large.png", 7000, interlace=True), 7000
    ),
    "checkpoint: weights of stride 0, 40 GB": lambda: forged(
        dictionary(state_dict=dictionary(a=tensor((10**5, 10**5), (0, 0))))
    ),
    "checkpoint: deflated, 2 GB": lambda: forged(
        dictionary(state_dict=dictionary(a=tensor((4,), (1,), 5 * 10**8))),
        zipfile.ZIP_DEFLATED,
        **{"data/0": bytes(2 * 10**9)},
    ),
    "checkpoint: bytearray of 4 GB": lambda: forged(dictionary(a=call("builtins", "bytearray", plain(4 * 10**9)))),
    "checkpoint: tensor without content": lambda: forged(dictionary(a=call("torch", "FloatTensor", plain(10**9)))),
}
"""What each file is, and how it is made; returns options."""


if __name__ == "__main__":
    main()
