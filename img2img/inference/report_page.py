"""The HTML page of a report: each image before and after, with a divider to drag.

The page is a single file that needs no network and cannot reach one.
"""

from __future__ import annotations

import base64
import hashlib
import html
import math
import shutil
import tempfile
from collections import Counter
from collections.abc import Iterable, Mapping
from importlib import resources
from pathlib import Path
from string import Template
from urllib.parse import quote

import pyvips

from img2img.imaging.parts import appearing
from img2img.inference.journal import STATUSES, Record
from img2img.inference.options import WHITE_SIGMA

Pictures = Mapping[str, bytes]
"""JPEG or WebP by name: `before`, `after` and `sigma`, whole; `before_detail` and `after_detail`, at full size."""

_UNSEEN = {code: 0x2400 + code for code in range(32)} | {0x7F: 0x2421}  # control characters become visible symbols
_UNSEEN |= dict.fromkeys(range(0xD800, 0xE000), 0xFFFD)  # bytes of a file name that are not UTF-8


def write_report_page(
    path: Path,
    title: str,
    facts: dict[str, str],
    entries: Iterable[tuple[Record, Pictures]],
    *,
    replace: bool = True,
) -> None:
    """Writes the page; it appears complete or not at all.

    Entries are written to disk one at a time, so memory does not grow with their number; until the page is complete, it
    needs twice its size on disk. A photograph and its noisy input take 250 kB as pictures of 640 pixels and 64 kB at
    320 pixels; browsers are slow with more than a few hundred MB.

    Args:
        path: File to write or replace, in the output folder: the page links to the outputs.
        title: Heading of the page.
        facts: Facts about the run, in this order, such as `{"Model": "denoise", "Speed": "1.3 MP/s"}`.
        entries: The images and their pictures, in the order of the page, except that failed ones come first.
        replace: Whether to replace a file that is there.

    Raises:
        OSError: If the page cannot be written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    # Beside the page, as the system's temporary folder may be small; without a name, so that nothing is left behind.
    with tempfile.TemporaryFile(dir=path.parent) as problems, tempfile.TemporaryFile(dir=path.parent) as gallery:
        counts: Counter[str] = Counter()
        for record, pictures in entries:
            counts[record.status] += 1
            (problems if record.status == "failed" else gallery).write(_card(record, pictures).encode())
        page = _page(title, facts, counts)
        head, _, rest = page.partition("<!-- problems -->\n")
        middle, _, tail = rest.partition("<!-- gallery -->\n")
        with appearing(path, replace=replace) as part, open(part, "xb") as file:
            for text, cards in ((head, problems), (middle, gallery)):
                file.write(text.encode())
                cards.seek(0)
                shutil.copyfileobj(cards, file, 1 << 20)
            file.write(tail.encode())


def _page(title: str, facts: dict[str, str], counts: Counter[str]) -> str:
    """Returns the page without its images."""
    template = resources.files("img2img.inference").joinpath("report_page.html").read_text(encoding="utf-8")
    present = [(status, counts[status]) for status in STATUSES if counts[status]]
    choices = [("", "All"), *((status, status.capitalize()) for status, _ in present)] if len(present) > 1 else []
    return Template(template).substitute(
        policy=_policy(template),
        title=_text(title),
        counts="".join(f'<li class="{status}"><b>{count:,}</b> {status}</li>' for status, count in present)
        or "<li>No images</li>",
        facts="".join(f"<div><dt>{_text(key)}</dt><dd>{_text(value)}</dd></div>" for key, value in facts.items()),
        choices="".join(
            f'<button type="button" value="{status}" aria-pressed="{str(not status).lower()}">{label}</button>'
            for status, label in choices
        ),
        no_problems="" if counts["failed"] else " hidden",
    )


def _policy(template: str) -> str:
    """Returns a Content-Security-Policy for the template's own style and script and for pictures in the page."""
    hashes = {}
    for tag in ("style", "script"):
        content = template.partition(f"<{tag}>")[2].partition(f"</{tag}>")[0]
        hashes[tag] = "sha256-" + base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()
    own = "; ".join(f"{tag}-src '{digest}'" for tag, digest in hashes.items())
    return f"default-src 'none'; img-src data:; {own}; base-uri 'none'; form-action 'none'"


def _card(record: Record, pictures: Pictures) -> str:
    """Returns one image of the page."""
    folder, slash, file = record.name.rpartition("/")
    name = f'<bdi><span class="folder">{_text(folder + slash)}</span>{_text(file)}</bdi>'
    if record.status != "failed":
        # "./" and the quoted colon make a link of a file named `javascript:…`; the bytes of the name are kept.
        link = "./" + quote(record.name, safe="/", errors="surrogateescape")
        name = f'<a href="{link}" target="_blank" rel="noopener">{name}</a>'
    size, seconds = (record.width, record.height), record.seconds
    details = [f"{size[0]:,} × {size[1]:,}"] if all(size) else []
    details += [f"{seconds:.2g} s" if seconds < 10 else f"{seconds:,.0f} s"] if seconds else []
    details += [record.status] if record.status == "skipped" else []
    details += [f"{_text(key)} <b>{_number(value)}</b>" for key, value in record.scores.items()]
    listed = f'<ul class="details">{"".join(f"<li>{detail}</li>" for detail in details)}</ul>' if details else ""
    reason = f'<p class="reason">{_text(record.reason)}</p>' if record.reason else ""
    whole = {which: pictures[which] for which in ("before", "after") if which in pictures}
    if whole:
        views = _view(whole, size if all(size) else None)
    else:
        views = "" if record.status == "failed" else '<figure class="view none">no picture</figure>'
    if "before_detail" in pictures and "after_detail" in pictures:
        details_by_label = {f"{which}, full size": pictures[f"{which}_detail"] for which in ("before", "after")}
        views += _view(details_by_label)
    if "sigma" in pictures:
        views += _view({f"σ of the error: black 0, white {WHITE_SIGMA / 2} or more": pictures["sigma"]})
    return (
        f'<article class="card" data-status="{record.status}">{views}'
        f'<div class="text"><h3>{name}</h3>{listed}{reason}</div></article>\n'
    )


def _view(pictures: Pictures, size: tuple[int, int] | None = None) -> str:
    """Returns one picture, or two under a divider, with captions; the size is that of the image, or of the picture."""
    if size is None:
        first = pyvips.Image.new_from_buffer(next(iter(pictures.values())), "")
        size = first.width, first.height
    images = "".join(
        f'<img alt="{label}" width="{size[0]}" height="{size[1]}" decoding="async" src="{_data_uri(data)}">'
        for label, data in pictures.items()
    )
    captions = "".join(f"<span>{label}</span>" for label in pictures)
    two = " two" if len(pictures) == 2 else ""
    return (
        f'<figure class="view{two}"><div class="pair"><noscript>{images}</noscript></div>'
        f"<figcaption>{captions}</figcaption></figure>"
    )


def _data_uri(data: bytes) -> str:
    kind = "webp" if data[8:12] == b"WEBP" else "jpeg"
    return f"data:image/{kind};base64,{base64.b64encode(data).decode()}"


def _number(value: float) -> str:
    """Returns a score with four digits."""
    return f"{value:.4g}" if math.isfinite(value) else {math.inf: "∞", -math.inf: "-∞"}.get(value, "–")


def _text(text: str) -> str:
    """Returns text escaped for HTML elements and attributes, with invisible characters made visible."""
    return html.escape(text.translate(_UNSEEN))
