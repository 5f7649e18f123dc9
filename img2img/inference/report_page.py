"""The HTML page of a report: each image before and after, with a divider to drag."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from urllib.parse import quote

import pyvips

from img2img.inference.journal import STATUSES, Record
from img2img.inference.options import WHITE_SIGMA
from img2img.inference.page import (
    as_choices,
    as_details,
    as_facts,
    as_image,
    as_name,
    as_number,
    as_text,
    read_template,
    write_page,
)
from img2img.inference.risk import Risk

Pictures = Mapping[str, bytes]
"""JPEG or WebP by name: `before`, `after` and `sigma`, whole; `before_detail` and `after_detail`, at full size."""
_FIRST = '<section class="gallery first" aria-labelledby="first"><h2 id="first">Look at these first</h2>\n'


def write_report_page(
    path: Path,
    title: str,
    facts: dict[str, str],
    entries: Iterable[tuple[Record, Pictures]],
    *,
    risks: Mapping[str, Risk] = MappingProxyType({}),
    strength: float = 1.0,
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
        entries: The images and their pictures, in the order of the page, except that failed ones come first, then those
            to look at first.
        risks: The risk of each restored image, by name.
        strength: How much of the restoration the images got, from which a slider starts.
        replace: Whether to replace a file that is there.

    Raises:
        OSError: If the page cannot be written.
    """
    counts: Counter[str] = Counter()

    def cards() -> Iterator[tuple[str, str]]:
        for record, pictures in entries:
            counts[record.status] += 1
            reasons = risks[record.name].reasons if record.name in risks else ()
            section = "problems" if record.status == "failed" else "first" if reasons else "gallery"
            if section == "first" and counts["first"] == 0:
                yield section, _FIRST
            counts["first"] += section == "first"
            yield section, _card(record, pictures, reasons)
        if counts["first"]:
            yield "first", "</section>\n"

    template = read_template("img2img.inference", "report_page.html")
    write_page(path, template, cards(), lambda: _values(title, facts, counts, strength), replace=replace)


def _values(title: str, facts: dict[str, str], counts: Counter[str], strength: float) -> dict[str, str]:
    """Returns what stands in the template's places."""
    present = [(status, counts[status]) for status in STATUSES if counts[status]]
    choices = {"": "All"} | {status: status.capitalize() for status, _ in present} if len(present) > 1 else {}
    return {
        "title": as_text(title),
        "counts": "".join(f'<li class="{status}"><b>{count:,}</b> {status}</li>' for status, count in present)
        or "<li>No images</li>",
        "facts": as_facts(facts),
        "choices": as_choices(choices),
        "strength": f"{100 * strength:g}",
        "no_strength": "" if strength and counts["restored"] else " hidden",
        "others": "<h2>The others</h2>" if counts["first"] else "",
        "no_problems": "" if counts["failed"] else " hidden",
    }


def _card(record: Record, pictures: Pictures, risks: Sequence[str]) -> str:
    """Returns one image of the page; `risks` say why to look at it."""
    name = as_name(record.name)
    if record.status != "failed":
        # "./" and the quoted colon make a link of a file named `javascript:…`; the bytes of the name are kept.
        link = "./" + quote(record.name, safe="/", errors="surrogateescape")
        name = f'<a href="{link}" target="_blank" rel="noopener">{name}</a>'
    size, seconds = (record.width, record.height), record.seconds
    details = [f"{size[0]:,} × {size[1]:,}"] if all(size) else []
    details += [f"{seconds:.2g} s" if seconds < 10 else f"{seconds:,.0f} s"] if seconds else []
    details += [record.status] if record.status == "skipped" else []
    details += [f"{as_text(key)} <b>{as_number(value)}</b>" for key, value in record.scores.items()]
    reason = f'<p class="reason">{as_text(record.reason)}</p>' if record.reason else ""
    reason += f'<ul class="risks">{"".join(f"<li>{as_text(each)}</li>" for each in risks)}</ul>' if risks else ""
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
        f'<div class="text"><h3>{name}</h3>{as_details(details)}{reason}</div></article>\n'
    )


def _view(pictures: Pictures, size: tuple[int, int] | None = None) -> str:
    """Returns one picture, or two under a divider, with captions; the size is that of the image, or of the picture."""
    if size is None:
        first = pyvips.Image.new_from_buffer(next(iter(pictures.values())), "")
        size = first.width, first.height
    images = "".join(as_image(data, label, *size) for label, data in pictures.items())
    captions = "".join(f"<span>{label}</span>" for label in pictures)
    two = " two" if len(pictures) == 2 else ""
    return (
        f'<figure class="view{two}"><div class="pictures pair"><noscript>{images}</noscript></div>'
        f"<figcaption>{captions}</figcaption></figure>"
    )
