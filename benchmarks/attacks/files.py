"""Attacks by images, journals, tables, and what is in the working directory or the output folder."""

from __future__ import annotations

import io
import os
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
from PIL import Image

from benchmarks.attacks.kit import ATTACKS, ENVIRONMENT, PROGRAM, SHIPPED, Evil, attack, photo


def register() -> None:
    """Registers the attacks by images and by journals."""
    big = io.BytesIO()
    Image.new("L", (30_000, 30_000)).save(big, "PNG")
    svg = b'<svg xmlns="http://www.w3.org/2000/svg" width="9" height="9">'
    svg += b'<image href="http://127.0.0.1:9/x" width="9" height="9"/></svg>'
    for name, (file, content) in {
        "SVG that loads an address": ("a.png", svg),
        "PostScript": ("a.tif", b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n(RAN) (w) file closefile\nshowpage"),
        "ImageMagick script": (
            "a.png",
            b"push graphic-context\nviewbox 0 0 9 9\nimage over 0,0 0,0 '|touch RAN'\npop graphic-context",
        ),
        "900 megapixels in 1 MB": ("a.png", big.getvalue()),
        "name with options of libvips": ("a.tif[n=-1,x=`touch RAN`].png", photo()),
        "name that is an option": ("--overwrite.png", photo()),
        "name with control characters": ("a\x1b[2J\n\r.png", photo()),
    }.items():
        ATTACKS[f"image: {name}"] = lambda file=file, content=content: (
            Path("photos", file).write_bytes(content),
            [*SHIPPED, *(["--dry_run"] if len(content) > 10**5 else [])],
        )[1]
    for name, lines in {
        "leads outside": ['{"name": "../victim/photo.png", "source": "x", "status": "restored", "at": 1}'],
        "100,000 brackets": ["[" * 100_000],
        "types": ['{"name": [], "source": {}, "status": "restored", "at": "x"}', "3", "[]", "null", '{"at": 1}'],
        "begun outside": ['{"begun": "../victim/photo.png", "at": 1}', '{"begun": {}, "at": 2}'],
    }.items():
        ATTACKS[f"journal: {name}"] = lambda lines=lines: journal(lines)


def journal(lines: list[str]) -> list[str]:
    """Restores, adds lines to the journal, and returns the command that continues."""
    subprocess.run([sys.executable, "-P", "-c", PROGRAM, *SHIPPED], env=ENVIRONMENT, check=True)
    with Path("out/.img2img/journal-0.jsonl").open("a") as file:
        file.write("\n" + "\n".join(lines) + "\n")
    Path("photos/new.png").write_bytes(photo())
    return SHIPPED


@attack("image: link to the victim, and FIFO")
def _() -> list[str]:
    Path("photos/link.png").symlink_to(Path("victim/photo.png").absolute())
    os.mkfifo("photos/fifo.png")
    return SHIPPED


@attack("output: .img2img is a link to the victim")
def _() -> list[str]:
    Path("out").mkdir()
    Path("out/.img2img").symlink_to(Path("victim").absolute())
    return SHIPPED


@attack("output: report and page are links to the victim")
def _() -> list[str]:
    Path("out").mkdir()
    for name in ("restore_report.json", "restore_report.html"):
        Path("out", name).symlink_to(Path("victim/photo.png").absolute())
    return [*SHIPPED, "--html"]


@attack("output: run.json of 100,000 brackets")
def _() -> list[str]:
    Path("out/.img2img").mkdir(parents=True)
    for name in ("run.json", "memory.json"):
        Path("out/.img2img", name).write_text("[" * 100_000)
    return SHIPPED


@attack("working directory: modules that libraries look for")
def _() -> list[str]:
    for name in (
        "opt_einsum",
        "gmpy2",
        "regex",
        "snappy",
        "zstandard",
        "tabulate",
        "tensorflow",
        "matplotlib",
        "pandas",
    ):
        Path(f"{name}.py").write_text("open('RAN', 'w')")
    return SHIPPED


@attack("table: npz with an object")
def _() -> list[str]:
    np.savez("t.npz", path=np.array([Evil()], dtype=object), label=np.array(["a"]))
    return ["evaluate-latents", "t.npz"]


@attack("table: npz of 4 GB in 4 MB")
def _() -> list[str]:
    head = io.BytesIO()
    np.lib.format.write_array_header_1_0(head, {"descr": "<f4", "fortran_order": False, "shape": (10**9,)})
    with zipfile.ZipFile("t.npz", "w", zipfile.ZIP_DEFLATED) as file:
        for name in ("path", "label", "mu", "error"):
            with file.open(f"{name}.npy", "w", force_zip64=True) as entry:
                entry.write(head.getvalue())
                for _ in range(1000):
                    entry.write(bytes(10**6))
    return ["evaluate-latents", "t.npz"]


@attack("table: npz whose header claims 10^12 numbers")
def _() -> list[str]:
    head = io.BytesIO()
    np.lib.format.write_array_header_1_0(head, {"descr": "<f4", "fortran_order": False, "shape": (10**10,)})
    with zipfile.ZipFile("t.npz", "w") as file:
        for name in ("path", "label", "mu", "error"):
            file.writestr(f"{name}.npy", head.getvalue())
    return ["evaluate-latents", "t.npz"]
