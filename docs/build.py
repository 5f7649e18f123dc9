"""Builds the documentation site from the pages of the repository.

    pip install -e ".[docs]" && python docs/build.py [FOLDER]

Mirrors README.md, CHANGELOG.md, CONTRIBUTING.md, `docs/`, the cards of the shipped models and the pages of `data/` into
FOLDER/pages (default: build/docs), so that their links work as they do in the repository, and lets Zensical make
FOLDER/site of them. The site loads nothing from elsewhere; open site/index.html, no server is needed.
"""

from __future__ import annotations

import argparse
import re
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
MIRRORED = (
    *("README.md", "CHANGELOG.md", "CONTRIBUTING.md", "CITATION.cff", "docs/*.md", "docs/*.yaml", "docs/*.js"),
    *("docs/**/*.jpg", "docs/**/*.png", "img2img/weights/*.md", "data/README.md", "data/starter/CREDITS.md"),
)
"""What becomes part of the site: every page, and what pages link to or show."""


def mirror(folder: Path) -> None:
    """Copies the pages and pictures, as they lie in the repository, and removes what an earlier build copied.

    What a comment above a block tells the tests, readers see as its title or not at all: see tests/pages.py.
    """
    shutil.rmtree(folder, ignore_errors=True)
    for path in (path for pattern in MIRRORED for path in sorted(ROOT.glob(pattern))):
        copy = folder / path.relative_to(ROOT)
        copy.parent.mkdir(parents=True, exist_ok=True)
        if path.suffix == ".md":
            text = re.sub(r"^<!-- file: (\S+) -->\n```(\w+)$", r'```\2 title="\1"', path.read_text("utf-8"), flags=re.M)
            copy.write_text(re.sub(r"^(?:<!-- no-run: .* -->\n)?```(\w+) no-run$", r"```\1", text, flags=re.M), "utf-8")
        else:
            shutil.copy2(path, copy)


def build(folder: Path) -> Path:
    """Builds the site; returns its first page.

    Raises:
        CalledProcessError: Zensical found a link or a name that leads nowhere.
    """
    mirror(folder / "pages")
    shutil.rmtree(folder / "site", ignore_errors=True)
    shutil.copy2(ROOT / "docs" / "zensical.toml", folder / "zensical.toml")
    subprocess.run([sys.executable, "-m", "zensical", "build", "--strict", "--clean"], cwd=folder, check=True)
    return folder / "site" / "index.html"


def main() -> None:
    """Builds the site and says where it is."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, nargs="?", default=ROOT / "build" / "docs")
    print(build(parser.parse_args().folder))


if __name__ == "__main__":
    main()
