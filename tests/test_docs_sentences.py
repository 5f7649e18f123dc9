"""What README.md and docs/ say outside of commands is true: links, names, lists."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from img2img.cli import COMMANDS
from img2img.imaging.formats import FORMATS
from tests.pages import DATA, PAGES, README, ROOT, blocks


def test_the_readme_is_short():
    assert len(README.read_text(encoding="utf-8").split()) <= 1300


def test_set_up_and_test_are_what_ci_runs():
    set_up = [line.partition("  #")[0].rstrip() for line in blocks(README)[0].text.splitlines()]
    assert set_up == ["pip install -e . && img2img fit --config denoise.yaml", 'pip install -e ".[dev]" && pytest']
    ci = (ROOT / ".ci" / "run").read_text(encoding="utf-8").splitlines()
    assert 'pip install -q -e ".[dev]"' in ci
    assert "pytest" in ci


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_commands_and_scripts_in_sentences_exist(page):
    text = page.read_text(encoding="utf-8")
    assert [name for name in re.findall(r"`img2img ([a-z][a-z-]*)", text) if name not in COMMANDS] == []
    modules = re.findall(r"python -m benchmarks\.(\w+)", text)
    scripts = [f"{name}/__main__.py" if (ROOT / "benchmarks" / name).is_dir() else f"{name}.py" for name in modules]
    scripts += re.findall(r"benchmarks/(\w+\.py)", text)
    assert [script for script in scripts if not (ROOT / "benchmarks" / script).is_file()] == []


@pytest.mark.parametrize("page", [*PAGES, DATA], ids=lambda page: page.relative_to(ROOT).as_posix())
def test_links_lead_somewhere(page):
    for target, heading in re.findall(r"\]\((?!https?:)([^)#\s]*)#?([^)\s]*)\)", page.read_text(encoding="utf-8")):
        file = page.parent / target if target else page
        assert file.exists(), f"{page.name} links to {target}"
        if heading:
            assert heading in anchors(file), f"{page.name} links to {target}#{heading}"


def anchors(page: Path) -> set[str]:
    """The names that GitHub gives to the headings of a page."""
    text = re.sub(r"^```.*?^```$", "", page.read_text(encoding="utf-8"), flags=re.M | re.S)
    headings = re.findall(r"^#+ (.*)$", text, re.M)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", [README, DATA, ROOT / "docs" / "restoring.md", ROOT / "docs" / "training.md"])
def test_lists_of_formats_are_those_of_the_table(page):
    paragraphs = page.read_text(encoding="utf-8").split("\n\n")
    listed = [text.lower() for text in paragraphs if "JPEG, PNG, WebP" in text]
    assert len(listed) == 1
    assert [kind.name for kind in FORMATS if kind.name not in listed[0]] == []


STRANGER = re.compile(r"pip\s+install\s+(?:-\S+\s+)*['\"]?img2img|['\"]img2img\[")
"""The name `img2img` on the package index belongs to another project."""


def test_no_text_sends_people_to_a_strangers_package():
    texts = (
        "*.md",
        "*.cff",
        "docs/*.md",
        "docs/*.yaml",
        "data/**/*.md",
        "data/**/*.py",
        "configs/*",
        "benchmarks/**/*.py",
    )
    code = ("benchmarks/**/*.py", "img2img/**/*.py", "img2img/**/*.md", "img2img/**/*.html")
    files = {file for pattern in (*texts, *code) for file in ROOT.glob(pattern)}
    said = {file.relative_to(ROOT).as_posix(): STRANGER.search(file.read_text(encoding="utf-8")) for file in files}
    found = {name: match[0] for name, match in said.items() if match}
    assert len(files) > 100
    assert found == {}
