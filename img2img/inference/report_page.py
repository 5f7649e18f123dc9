"""The HTML page of a report: each image before and after, with a divider to drag.

The page is a single file. It needs no network and cannot reach one: its policy allows only the template's style and
script, by their hashes, and pictures within the page.
"""

from __future__ import annotations

import base64
import hashlib
import html
import math
import re
import shutil
import tempfile
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from string import Template
from urllib.parse import quote

import numpy as np
import pyvips

from img2img.imaging.files import UnreadableImage, from_float, read_image, to_float
from img2img.imaging.parts import appearing
from img2img.imaging.values import Pixels

_STATUSES = ("restored", "skipped", "failed")
# What libvips reads, recognised by content, so that no rarer loader (SVG, PDF) is reached.
_STREAMED = re.compile(rb"\xff\xd8\xff|\x89PNG\r\n\x1a\n|RIFF....WEBP|II[*+]\0|MM\0[*+]", re.DOTALL)
_UNSEEN = {code: 0x2400 + code for code in range(32)} | {0x7F: 0x2421}  # control characters become visible symbols
_UNSEEN |= dict.fromkeys(range(0xD800, 0xE000), 0xFFFD)  # bytes of a file name that are not UTF-8
_SQUARE = 8  # pixels, side of a square in the checkerboard behind transparent images


@dataclass(frozen=True)
class Entry:
    """One image of the report.

    Attributes:
        name: POSIX path of the output relative to the page, which links to it; any characters.
        status: `restored`, `skipped` or `failed`.
        reason: Why it failed or was skipped; otherwise empty.
        width: Width of the upright output in pixels, 0 if there is none.
        height: Height, likewise.
        seconds: Time it took, 0 if unknown.
        before: Picture of the input as JPEG or WebP, from `thumbnail`, or None.
        after: Picture of the output, likewise.
        scores: Metrics by name, such as `{"PSNR": 31.2}`; may be empty.
        before_detail: Part of the input at full size, or None.
        after_detail: The same part of the output, or None.

    Raises:
        ValueError: If the status is not one of these three.
    """

    name: str
    status: str
    reason: str
    width: int
    height: int
    seconds: float
    before: bytes | None
    after: bytes | None
    scores: dict[str, float]
    before_detail: bytes | None = None
    after_detail: bytes | None = None

    def __post_init__(self) -> None:
        """Checks the status."""
        if self.status not in _STATUSES:
            raise ValueError(
                f"the status of {self.name!r} is {self.status!r}; it must be one of {', '.join(_STATUSES)}"
            )


def write_report_page(path: Path, title: str, facts: dict[str, str], entries: Iterable[Entry]) -> None:
    """Writes the page; it appears complete or not at all.

    Entries are written to disk one at a time, so memory does not grow with their number. Failed ones come first. Until
    the page is complete, it needs twice its size on disk. A photograph and its noisy input take 250 kB as pictures of
    640 pixels and 64 kB at 320 pixels; browsers are slow with more than a few hundred MB.

    Args:
        path: File to write, beside the outputs so that links to them work; an existing file is replaced.
        title: Heading of the page.
        facts: Facts about the run, in this order, such as `{"Model": "denoise", "Speed": "1.3 MP/s"}`.
        entries: The images, in the order of the page.

    Raises:
        OSError: If the page cannot be written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    # Beside the page, as the system's temporary folder may be small; without a name, so that nothing is left behind.
    with tempfile.TemporaryFile(dir=path.parent) as problems, tempfile.TemporaryFile(dir=path.parent) as gallery:
        counts: Counter[str] = Counter()
        for entry in entries:
            counts[entry.status] += 1
            (problems if entry.status == "failed" else gallery).write(_card(entry).encode())
        page = _page(title, facts, counts)
        head, _, rest = page.partition("<!-- problems -->\n")
        middle, _, tail = rest.partition("<!-- gallery -->\n")
        with appearing(path) as part, open(part, "xb") as file:
            for text, cards in ((head, problems), (middle, gallery)):
                file.write(text.encode())
                cards.seek(0)
                shutil.copyfileobj(cards, file, 1 << 20)
            file.write(tail.encode())


def _page(title: str, facts: dict[str, str], counts: Counter[str]) -> str:
    """Returns the page without its images."""
    template = resources.files("img2img.inference").joinpath("report_page.html").read_text(encoding="utf-8")
    present = [(status, counts[status]) for status in _STATUSES if counts[status]]
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


def _card(entry: Entry) -> str:
    """Returns one image of the page."""
    folder, slash, file = entry.name.rpartition("/")
    name = f'<bdi><span class="folder">{_text(folder + slash)}</span>{_text(file)}</bdi>'
    if entry.status != "failed":
        # "./" and the quoted colon make a link of a file named `javascript:…`; the bytes of the name are kept.
        link = "./" + quote(entry.name, safe="/", errors="surrogateescape")
        name = f'<a href="{link}" target="_blank" rel="noopener">{name}</a>'
    details = [f"{entry.width:,} × {entry.height:,}"] if entry.width and entry.height else []
    details += [f"{entry.seconds:.2g} s" if entry.seconds < 10 else f"{entry.seconds:,.0f} s"] if entry.seconds else []
    details += [entry.status] if entry.status == "skipped" else []
    details += [f"{_text(key)} <b>{_number(value)}</b>" for key, value in entry.scores.items()]
    listed = f'<ul class="details">{"".join(f"<li>{detail}</li>" for detail in details)}</ul>' if details else ""
    reason = f'<p class="reason">{_text(entry.reason)}</p>' if entry.reason else ""
    size = (entry.width, entry.height) if entry.width and entry.height else None
    views = _view({"before": entry.before, "after": entry.after}, size, entry.status)
    if entry.before_detail is not None and entry.after_detail is not None:
        views += _view({"before, full size": entry.before_detail, "after, full size": entry.after_detail}, None, "")
    return (
        f'<article class="card" data-status="{entry.status}">{views}'
        f'<div class="text"><h3>{name}</h3>{listed}{reason}</div></article>\n'
    )


def _view(pictures: dict[str, bytes | None], size: tuple[int, int] | None, status: str) -> str:
    """Returns pictures with their captions: two under a divider, one, or none; size is that of the whole image."""
    present = {label: data for label, data in pictures.items() if data is not None}
    if not present:
        return "" if status == "failed" else '<figure class="view none">no picture</figure>'
    size = _size(next(iter(present.values()))) if size is None else size
    images = "".join(
        f'<img alt="{label}" width="{size[0]}" height="{size[1]}" decoding="async" src="{_data_uri(data)}">'
        for label, data in present.items()
    )
    captions = "".join(f"<span>{label}</span>" for label in present)
    two = " two" if len(present) == 2 else ""
    return (
        f'<figure class="view{two}"><div class="pair"><noscript>{images}</noscript></div>'
        f"<figcaption>{captions}</figcaption></figure>"
    )


def _data_uri(data: bytes) -> str:
    """Returns a picture as a data URI."""
    kind = "webp" if data[8:12] == b"WEBP" else "jpeg"
    return f"data:image/{kind};base64,{base64.b64encode(data).decode()}"


def _size(data: bytes) -> tuple[int, int]:
    """Returns width and height of an encoded picture."""
    image = pyvips.Image.new_from_buffer(data, "")
    return image.width, image.height


def _number(value: float) -> str:
    """Returns a score with four digits."""
    return f"{value:.4g}" if math.isfinite(value) else {math.inf: "∞", -math.inf: "-∞"}.get(value, "–")


def _text(text: str) -> str:
    """Returns text escaped for HTML elements and attributes, with invisible characters made visible."""
    return html.escape(text.translate(_UNSEEN))


def thumbnail(path: Path, side: int = 640) -> bytes:
    """Returns a small JPEG of an image file: upright, 8-bit sRGB, transparency over a checkerboard.

    JPEG is shrunk while it is decoded, PNG and TIFF are streamed, so memory does not grow with the image. Inputs and
    outputs of the same size give pictures of the same size. Images are never enlarged. Float values are shown as the
    networks see them: the stored values in [0, 1], without a further curve.

    libvips works in threads, which do not survive a fork: call this in the first process, or in spawned ones.

    Args:
        path: An image in any format that `read_image` reads.
        side: Largest length of the longer side in pixels.

    Raises:
        UnreadableImage: If the file is missing, damaged or not a supported image.
    """
    try:
        with open(path, "rb") as file:
            if not _STREAMED.match(file.read(12)):
                return _encode(_shrink(_from_pixels(path), side))
            # A descriptor, not a name: libvips reads `[…]` in names as options, and refuses names that are not UTF-8.
            source = pyvips.Source.new_from_descriptor(file.fileno())
            return _encode(_shrink(_load(source, side), side))
    except OSError as error:
        raise UnreadableImage(f"cannot read {path}: {error.strerror or error}") from error
    except pyvips.Error as error:
        reason = next(iter(str(error.detail or "").strip().splitlines()), "damaged or truncated")
        raise UnreadableImage(f"cannot read {path}: {reason}") from error


def picture(pixels: Pixels) -> bytes:
    """Returns H×W×3 uint8 as a JPEG of the same size."""
    return _encode(pyvips.Image.new_from_array(np.ascontiguousarray(pixels)))


def _from_pixels(path: Path) -> pyvips.Image:
    """Returns an 8-bit image of a file that libvips cannot read."""
    image = read_image(path)
    pixels = image.pixels if image.alpha is None else np.concatenate([image.pixels, image.alpha], axis=2)
    return pyvips.Image.new_from_array(from_float(to_float(pixels), np.uint8))


def _load(source: pyvips.Source, side: int) -> pyvips.Image:
    """Opens an image for streaming; JPEG is decoded only at the size needed."""
    # `thumbnail_source` would do this and the rest, but ignores damage whatever `fail_on` says (libvips 8.18).
    options = {"access": "sequential", "fail_on": "error"}
    image = pyvips.Image.new_from_source(source, "", **options)
    shrink = max(n for n in (1, 2, 4, 8) if n == 1 or max(image.width, image.height) >= n * side)
    if image.get("vips-loader") == "jpegload_source" and shrink > 1:
        image = pyvips.Image.new_from_source(source, "", shrink=shrink, **options)
    if image.format == "float":  # libvips would take RGB floats as linear and gray ones as 0 to 255
        image = (image * 255 + 0.5).cast("uchar").copy(interpretation="b-w" if image.bands < 3 else "srgb")
    return image


def _shrink(image: pyvips.Image, side: int) -> pyvips.Image:
    """Returns an image upright, in 8-bit sRGB, with sides of at most this length."""
    profile = {"input_profile": "cmyk"} if image.interpretation == "cmyk" else {}  # unless it has its own
    return image.thumbnail_image(side, height=side, size="down", output_profile="srgb", **profile)


def _encode(small: pyvips.Image) -> bytes:
    """Returns an 8-bit image as an opaque JPEG."""
    if small.hasalpha():
        small = small.copy_memory()  # alpha and colour are read separately, which a stream does not allow
        squares = (pyvips.Image.xyz(small.width, small.height) / _SQUARE).floor()
        board = ((squares[0] + squares[1]) % 2 * 48 + 207).cast("uchar")
        alpha = small[small.bands - 1]
        colours = small[0 : small.bands - 1] if small.bands > 2 else small[0]
        small = alpha.ifthenelse(colours, board, blend=True)
    # Full chroma: people look for colour noise and what is left of it.
    return bytes(small.jpegsave_buffer(Q=85, subsample_mode="off", optimize_coding=True, keep="none"))
