"""Pages that people look at: single HTML files that need no network and cannot reach one.

A page has a template, and shares its look (page.css) and behaviour (page.js) with the others. Names and messages come
from anywhere, so they are only ever text there.
"""

from __future__ import annotations

import base64
import hashlib
import html
import math
import re
import shutil
import tempfile
from collections.abc import Callable, Iterable, Mapping
from contextlib import ExitStack
from importlib import resources
from pathlib import Path
from string import Template

from img2img.imaging.parts import appearing

_UNSEEN = {code: 0x2400 + code for code in range(32)} | {0x7F: 0x2421}  # control characters become visible symbols
_UNSEEN |= dict.fromkeys(range(0xD800, 0xE000), 0xFFFD)  # bytes of a file name that are not UTF-8
_SECTION = re.compile(r"<!-- (\w+) -->\n")


def read_template(package: str, name: str) -> str:
    """Returns a template of a package, with the head, the style and the script that all pages share."""
    text = resources.files(package).joinpath(name).read_text(encoding="utf-8")
    here = resources.files("img2img.inference")
    text = text.replace("<!-- head.html -->\n", here.joinpath("head.html").read_text(encoding="utf-8"))
    for shared in ("page.css", "divider.css", "page.js", "enlarge.js", "divider.js", "strength.js"):
        text = text.replace(f"/* {shared} */\n", here.joinpath(shared).read_text(encoding="utf-8"))
    return text


def write_page(
    path: Path,
    template: str,
    cards: Iterable[tuple[str, str]],
    values: Callable[[], Mapping[str, str]],
    *,
    replace: bool = True,
) -> None:
    """Writes a page; it appears complete or not at all.

    Cards are written to disk one at a time, so memory does not grow with their number; until the page is complete, it
    needs twice its size on disk.

    Args:
        path: File to write or replace.
        template: The page, from `read_template`, with a place for each section, such as `<!-- gallery -->`, and for
            each value, such as `${title}`.
        cards: HTML elements, each with the name of its section, in the order of the page.
        values: Called after the last card; returns the HTML for each place, except for the `policy`.
        replace: Whether to replace a file that is there.

    Raises:
        FileExistsError: If a file is there and may not be replaced.
        OSError: If the page cannot be written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with ExitStack() as stack:
        # Beside the page, as the system's temporary folder may be small; without names, so that nothing is left behind.
        files = {
            name: stack.enter_context(tempfile.TemporaryFile(dir=path.parent)) for name in _SECTION.findall(template)
        }
        for section, card in cards:
            files[section].write(card.encode())
        page = Template(template).substitute(policy=_policy(template), **values())
        with appearing(path, replace=replace) as part, open(part, "xb") as file:
            for n, piece in enumerate(_SECTION.split(page)):
                if n % 2 == 0:
                    file.write(piece.encode())
                    continue
                files[piece].seek(0)
                shutil.copyfileobj(files[piece], file, 1 << 20)


def _policy(template: str) -> str:
    """Returns a Content-Security-Policy for the template's own style and script and for pictures in the page."""
    hashes = {}
    for tag in ("style", "script"):
        content = template.partition(f"<{tag}>")[2].partition(f"</{tag}>")[0]
        hashes[tag] = "sha256-" + base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()
    own = "; ".join(f"{tag}-src '{digest}'" for tag, digest in hashes.items())
    return f"default-src 'none'; img-src data:; {own}; base-uri 'none'; form-action 'none'"


def as_name(path: str) -> str:
    """Returns a path with forward slashes as HTML, the folder paler than the file."""
    folder, slash, file = path.rpartition("/")
    return f'<bdi><span class="folder">{as_text(folder + slash)}</span>{as_text(file)}</bdi>'


def as_facts(facts: Mapping[str, str]) -> str:
    """Returns facts as terms and descriptions for a `<dl class="facts">`."""
    return "".join(f"<div><dt>{as_text(key)}</dt><dd>{as_text(value)}</dd></div>" for key, value in facts.items())


def as_choices(labels: Mapping[str, str]) -> str:
    """Returns buttons by their values for a group with the class `choice`; the first is pressed."""
    return "".join(
        f'<button type="button" value="{as_text(value)}" aria-pressed="{str(not n).lower()}">{as_text(label)}</button>'
        for n, (value, label) in enumerate(labels.items())
    )


def as_details(details: Iterable[str]) -> str:
    """Returns pieces of HTML as the list below a card's name."""
    listed = "".join(f"<li>{detail}</li>" for detail in details)
    return f'<ul class="details">{listed}</ul>' if listed else ""


def as_image(data: bytes, alternative: str, width: int, height: int, kind: str = "") -> str:
    """Returns a JPEG or WebP as an element, embedded; `width` and `height` are of the image that it shows."""
    own = f' class="{kind}"' if kind else ""
    size = f'width="{width}" height="{height}"'
    return f'<img alt="{as_text(alternative)}"{own} {size} decoding="async" src="{_data_uri(data)}">'


def _data_uri(data: bytes) -> str:
    kind = "webp" if data[8:12] == b"WEBP" else "jpeg"
    return f"data:image/{kind};base64,{base64.b64encode(data).decode()}"


def as_number(value: float) -> str:
    """Returns a score with four digits."""
    return f"{value:.4g}" if math.isfinite(value) else {math.inf: "∞", -math.inf: "-∞"}.get(value, "–")


def as_text(text: str) -> str:
    """Returns text escaped for HTML elements and attributes, with invisible characters made visible."""
    return html.escape(text.translate(_UNSEEN))
