"""Reads the page of scored images as text."""

import html
import re
from pathlib import Path


def cards(page: str | Path) -> list[dict[str, str]]:
    """The cards of a page in their order: their data, the name, and the text below it."""
    found = []
    for attributes, inner in re.findall(r'<article class="card" ([^>]*)>(.*?)</article>', text_of(page), re.DOTALL):
        data = {key: html.unescape(value) for key, value in re.findall(r'data-(\w+)="([^"]*)"', attributes)}
        name = re.sub("<[^>]*>", "", re.search("<bdi>(.*?)</bdi>", inner)[1])
        below = re.sub("<[^>]*>", " ", inner.partition('<ul class="details">')[2])
        found.append({**data, "name": html.unescape(name), "text": below, "html": inner})
    return found


def text_of(page: str | Path) -> str:
    return Path(page).read_text(encoding="utf-8")


def words(part: str) -> str:
    return " ".join(re.sub("<[^>]*>", " ", part).split())
