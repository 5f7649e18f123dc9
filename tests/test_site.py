"""The documentation site: it leads to every page and picture, and loads nothing from elsewhere."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator

import pytest

from img2img.shipped import shipped_configs
from tests.pages import PAGES, ROOT

DOCS = ROOT / "docs"
SITE = tomllib.loads((DOCS / "zensical.toml").read_text(encoding="utf-8"))["project"]
CARDS = sorted((ROOT / "img2img" / "weights").glob("*.md"))
PICTURES = sorted(path for path in DOCS.rglob("*") if path.suffix in (".jpg", ".png", ".webp"))


def pages_of(nav: list) -> Iterator[str]:
    for entry in nav:
        for page in entry.values():
            yield from [page] if isinstance(page, str) else pages_of(page)


def test_the_site_leads_to_every_page():
    every = {page.relative_to(ROOT).as_posix() for page in [*PAGES, *CARDS, ROOT / "CHANGELOG.md"]}
    listed = list(pages_of(SITE["nav"]))
    assert len(listed) == len(set(listed))
    assert every - set(listed) == set()
    assert [page for page in listed if not (ROOT / page).is_file()] == []


def test_pages_in_reading_order_lead_to_the_next_one():
    order = list(pages_of(SITE["nav"]))
    for page in PAGES:
        named = re.search(r"Next page:\s\[[^\]]*\]\((\w+\.md)\)", page.read_text(encoding="utf-8"))
        if named:
            here = order.index(page.relative_to(ROOT).as_posix())
            assert order[here + 1] == f"docs/{named[1]}", f"{page.name} names {named[1]}"


def test_every_shipped_config_is_among_the_tasks():
    text = (DOCS / "tasks.md").read_text(encoding="utf-8")
    assert [path.stem for path in shipped_configs() if f"`{path.stem}`" not in text] == []


def test_every_picture_is_shown_and_all_are_small():
    texts = "".join(page.read_text(encoding="utf-8") for page in [*PAGES, *CARDS])
    shown = set(re.findall(r"!\[[^\]]*\]\((?:\.\./\.\./)?(?:docs/)?([^)]*)\)", texts))
    assert {path.relative_to(DOCS).as_posix() for path in PICTURES} == shown
    assert sum(path.stat().st_size for path in PICTURES) < 3e6


LOADS = re.compile(r"<(?:script|img|iframe|source|link)\b[^>]*?(?:src|href)=[\"']?(?:https?:)?//[^>]*>")


@pytest.mark.slow
def test_the_site_is_built_and_loads_nothing_from_elsewhere(tmp_path):
    subprocess.run([sys.executable, DOCS / "build.py", tmp_path], check=True)
    pages = {path.relative_to(tmp_path / "site").as_posix(): path for path in tmp_path.glob("site/**/*.html")}
    assert {"index.html", "CHANGELOG.html", "docs/reference.html", "img2img/weights/denoise.html"} <= pages.keys()
    texts = {name: path.read_text(encoding="utf-8") for name, path in pages.items()}
    assert {name: LOADS.findall(text) for name, text in texts.items() if LOADS.search(text)} == {}
    assert 'id="img2img.restore"' in texts["docs/reference.html"]
    assert "receptive field" in (tmp_path / "site" / "search.js").read_text(encoding="utf-8")
