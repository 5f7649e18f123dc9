"""The page of scored images: what it says, what it holds, and how it behaves in a real browser."""

import base64
import html
import io
import json
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import img2img
from img2img.anomaly import report_pictures
from img2img.errors import UserError

CPU = {"accelerator": "cpu", "devices": 1}
HOSTILE = [
    "<img src=x onerror=\"document.title='run'\">.png",
    "<script>document.title='run'<!-- gallery -->.png",
    "a&amp;b \"double\" 'single' ${title}.png",
    "line\nbreak #1?%20.png",
    "javascript:document.title='run'.png",
]


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


def picture(card: dict[str, str], kind: str) -> np.ndarray:
    """A picture that is embedded in a card: the image, its marks or the outline of its mask."""
    wanted = {"image": r'alt="image"', "marks": r'class="marks"', "truth": r'class="truth"'}[kind]
    source = re.search(rf'<img [^>]*{wanted}[^>]*src="data:image/\w+;base64,([^"]*)"', card["html"])
    return np.array(Image.open(io.BytesIO(base64.b64decode(source[1]))))


def test_the_page_says_what_the_scores_say(linear, parts):
    scores = img2img.score(parts, None, linear, html="out/r.html", **CPU)
    assert [path.name for path in Path("out").iterdir()] == ["r.html"]
    page, found = text_of("out/r.html"), cards("out/r.html")
    ranked = scores.ranked()
    assert [card["name"] for card in found] == [row["path"] for row in ranked]
    assert [float(card["score"]) for card in found] == [row["neighbour"] for row in ranked]
    for card, row in zip(found, ranked, strict=True):
        truth = "normal" if row["label"] == "good" else "abnormal"
        verdict = "abnormal" if row["abnormal"] else "normal"
        assert (card["label"], card["truth"]) == (row["label"], truth)
        assert card["text"].split()[0] == verdict
        wrong = {"normal": "missed", "abnormal": "false alarm"}[verdict]
        assert (wrong in card["text"]) == (truth != verdict)
    counts = words(re.search('<ul class="counts"[^>]*>(.*?)</ul>', page, re.DOTALL)[1])
    judged, above = scores.verdicts, sum(row["abnormal"] for row in ranked)
    assert counts.startswith(f"{above} of 12 images {'is' if above == 1 else 'are'} abnormal")
    assert f"{judged.false_alarms} of 6 normal images are false alarms" in counts
    assert f"{judged.misses} of 6 abnormal images are missed" in counts
    assert "the page shows" not in counts
    assert f"{scores.thresholds['neighbour']:.4g}: 95 % of 12 held-out normal images do not exceed it" in page
    table = re.findall("<tr>(.*?)</tr>", page)
    quality = scores.table["spot"]["neighbour"]
    assert words(table[1]).startswith(f"spot neighbour {quality.auroc:.3f} ")
    assert f" {quality.average_precision:.3f} " in words(table[1])
    assert f"{scores.table['spot']['pixels'].aupro:.3f}" in words(table[2])
    strips = [json.loads(values) for values in re.findall(r'data-values="(\[[^"]*\])"', page)]
    assert [len(values) for values in strips] == [12, 6, 6], "held-out, good, spot"
    assert strips[2] == sorted(row["neighbour"] for row in scores.rows if row["label"] == "spot")


def test_marks_and_masks_lie_on_the_defect(linear, parts):
    img2img.score(parts, None, linear, html="r.html", **CPU)
    for card in cards("r.html"):
        photo, marks = picture(card, "image"), picture(card, "marks")
        assert photo.shape[:2] == marks.shape[:2] == ((32, 44) if card["label"] == "good" else (32, 42))
        if card["label"] == "good":
            assert 'class="truth"' not in card["html"]
            continue
        assert (marks[10:14, 22:28, 3] > 0).mean() > 0.5
        assert (marks[..., 0] >= marks[..., 1]).all()
        truth = picture(card, "truth")[..., 3] > 200
        assert truth[7, 20:30].all(), "just above the square"
        assert not truth[8:16, 20:30].any(), "the defect itself stays free"


def test_images_that_were_trained_on_are_named_and_count_neither_way(linear, trained_on, parts):
    for path in sorted((trained_on / "train").iterdir())[:3]:
        (parts / "good" / f"seen-{path.name}").write_bytes(path.read_bytes())
    img2img.score(parts, None, linear, html="r.html", **CPU)
    page = text_of("r.html")
    assert "3 were trained on" in page
    assert "of 6 normal images are false alarms" in words(page)
    seen = [card for card in cards("r.html") if "seen-" in card["name"]]
    assert len(seen) == 3
    assert all("trained on" in card["text"] and not card["truth"] for card in seen)


def test_nothing_is_said_about_labels_where_none_is_normal(linear, parts):
    img2img.score(parts / "spot", None, linear, html="r.html", **CPU)
    page = text_of("r.html")
    assert "<table>" not in page
    assert "false alarms" not in words(page.partition("<script>")[0])
    assert ">Wrong<" not in page
    assert {card["truth"] for card in cards("r.html")} == {""}


def test_a_page_is_not_written_where_it_may_not_be(linear, parts):
    def message(**options: object) -> str:
        with pytest.raises(UserError) as raised:
            img2img.score(parts, None, linear, **options, **CPU)
        return str(raised.value)

    Path("mine.html").write_text("mine")
    assert message(html="mine.html") == "mine.html is there already; give --overwrite to replace it, or another name"
    assert text_of("mine.html") == "mine"
    assert "is inside the input" in message(html=parts / "r.html")
    assert "--html r.csv is a page: name it .html" in message(html="r.csv")
    Path("folder.html").mkdir()
    assert "is a folder" in message(html="folder.html")
    img2img.score(parts, None, linear, html="mine.html", overwrite=True, **CPU)
    assert len(cards("mine.html")) == 12


def test_files_that_cannot_be_read_are_named_on_the_page(linear, parts):
    (parts / "good" / "<b>broken.png").write_bytes(b"no image")
    img2img.score(parts, None, linear, html="r.html", **CPU)
    problems = re.search('<section class="problems"[^>]*>(.*?)</section>', text_of("r.html"), re.DOTALL)
    assert "hidden" not in problems[0].partition(">")[0]
    assert "&lt;b&gt;broken.png" in problems[1]


def test_a_large_folder_shows_the_most_abnormal_and_the_missed(linear, parts, monkeypatch):
    monkeypatch.setattr(report_pictures, "MOST", 5)
    monkeypatch.setattr(report_pictures, "MOST_MISSED", 2)
    scores = img2img.score(parts, None, linear, normal=["spot"], html="r.html", **CPU)  # so that good/ is missed
    ranked = [row["path"] for row in scores.ranked()]
    missed = [row["path"] for row in scores.ranked() if row["label"] == "good" and not row["abnormal"]]
    beyond = [path for path in missed[-2:] if path not in ranked[:5]]
    assert beyond, "some must lie beyond the first five"
    expected = ranked[: 5 - len(beyond)] + beyond
    assert [card["name"] for card in cards("r.html")] == expected
    page = words(text_of("r.html"))
    assert "the page shows 5 : the most abnormal ones and those that are missed" in page
    strips = [json.loads(values) for values in re.findall(r'data-values="(\[[^"]*\])"', text_of("r.html"))]
    assert [len(values) for values in strips] == [12, 6, 6], "the counts are of all images"


# In a browser ----------------------------------------------------------------------------------------------------

VISIBLE = "Array.from(document.querySelectorAll('.card')).filter(card => card.checkVisibility()).length"


@pytest.fixture
def page(linear, parts) -> Path:
    for name in HOSTILE:
        (parts / "good" / name).write_bytes((parts / "good" / "00.png").read_bytes())
    hostile = parts / "<i>label"
    hostile.mkdir()
    (hostile / "a.png").write_bytes((parts / "good" / "01.png").read_bytes())
    img2img.score(parts, None, linear, html="r.html", quantile=0.5, **CPU)
    return Path("r.html").absolute()


def move(browser, place: int) -> None:
    browser.run(
        f"{{const s = document.getElementById('threshold'); s.value = {place}; s.dispatchEvent(new Event('input'))}}"
    )


def test_the_threshold_moves_and_everything_is_counted_again(browser, page):
    browser.open(page)
    stored = [words(part) for part in re.findall(r'<span class="above">(.*?)</span>', text_of(page))]
    above = "Array.from(document.querySelectorAll('.above'), one => one.textContent)"
    assert browser.run(above) == [text.replace("  ", " ") for text in stored]
    for place in (0, 300, 700, 1000):
        move(browser, place)
        limit = float(browser.run("document.getElementById('value').textContent"))
        expected = [card for card in cards(page) if float(card["score"]) > limit * 1.001]
        unsure = [card for card in cards(page) if abs(float(card["score"]) / limit - 1) <= 1e-3]
        found = int(browser.run("document.getElementById('found').textContent"))
        assert len(expected) <= found <= len(expected) + len(unsure)
        missed = int(browser.run("document.getElementById('missed').textContent"))
        false = int(browser.run("document.getElementById('false').textContent"))
        assert found == false + sum(card["truth"] == "abnormal" for card in cards(page)) - missed
        said = browser.run("Array.from(document.querySelectorAll('.verdict'), one => one.textContent)")
        assert said == ["abnormal"] * found + ["normal"] * (len(said) - found), "they are sorted"
        before = "Array.from(document.querySelectorAll('.gallery > *')).findIndex(one => one.matches('.cut'))"
        assert browser.run(before) == found, "the line is where the threshold is"
        browser.run("document.querySelector('button[value=wrong]').click()")
        assert browser.run(VISIBLE) == missed + false
        browser.run("document.querySelector('button[value=\"\"]').click()")
    browser.run("document.getElementById('reset').click()")
    assert browser.run(above) == stored


def test_the_slider_and_the_line_are_at_one_place(browser, page):
    browser.open(page)
    browser.run("document.getElementById('threshold').focus()")
    browser.press("ArrowRight")
    places = (
        """[document.querySelector('.strip line').getAttribute('x1'), document.getElementById('threshold').value]"""
    )
    line, slider = browser.run(places)
    assert line == slider
    box = "document.querySelector('{}').getBoundingClientRect().toJSON()"
    drawn, bar = browser.run(box.format(".strip line")), browser.run(box.format("#threshold"))
    assert drawn["x"] == pytest.approx(bar["x"] + 8 + (bar["width"] - 16) * float(slider) / 1000, abs=2)


def test_filters_by_verdict_label_and_name(browser, page):
    browser.open(page)
    everything = len(cards(page))
    assert browser.run(VISIBLE) == everything
    abnormal = sum(card["text"].split()[0] == "abnormal" for card in cards(page))
    for value, count in (("abnormal", abnormal), ("normal", everything - abnormal)):
        browser.run(f"document.querySelector('button[value={value}]').click()")
        assert browser.run(VISIBLE) == count
    browser.run("document.querySelector('.choice button').click()")
    labels = browser.run("Array.from(document.getElementById('label').options, one => one.value)")
    assert labels == ["*", "<i>label", "good", "spot"]
    pick = "{const l = document.getElementById('label'); l.value = '%s'; l.dispatchEvent(new Event('change'))}"
    browser.run(pick % "spot")
    assert browser.run(VISIBLE) == 6
    assert browser.run("document.getElementById('shown').textContent") == f"6 of {everything} images"
    browser.run(pick % "*")
    browser.run("document.getElementById('filter').focus()")
    browser.send("Input.insertText", text="SPOT/03")
    assert browser.run(VISIBLE) == 1


def test_marks_fade_masks_go_and_the_enlarged_image_has_a_plain_one_beside_it(browser, page):
    browser.open(page)
    first = ".card[data-label=spot]"
    browser.run(f"document.querySelector('{first}').scrollIntoView()")
    browser.wait(f"document.querySelector('{first} .marks') && document.querySelector('{first} .enlarge')")
    seen = "getComputedStyle(document.querySelector('%s .pictures:not(.plain) .%s')).%s"
    assert browser.run(seen % (first, "marks", "opacity")) == "1"
    browser.run("{const m = document.getElementById('marks'); m.value = 40; m.dispatchEvent(new Event('input'))}")
    assert browser.run(seen % (first, "marks", "opacity")) == "0.4"
    assert browser.run(seen % (first, "truth", "display")) != "none"
    browser.run("document.getElementById('truth').click()")
    assert browser.run(seen % (first, "truth", "display")) == "none"
    widths = f"['.gallery', '{first}', '{first} .plain'].map(one => document.querySelector(one).offsetWidth)"
    assert browser.run(widths)[2] == 0
    browser.run(f"document.querySelector('{first} .enlarge').click()")
    gallery, card, plain = browser.run(widths)
    assert card == gallery
    assert plain > 100
    assert browser.run(f"document.querySelector('{first} .plain').querySelectorAll('img').length") == 1
    zoomed = "Array.from(document.querySelectorAll('.card')).findIndex(one => one.matches('.zoomed'))"
    at = browser.run(zoomed)
    browser.run("document.activeElement.blur()")
    browser.press("ArrowRight")
    assert browser.run(zoomed) == at + 1
    browser.press("Escape")
    assert browser.run(zoomed) == -1


def test_names_and_labels_are_text_and_nothing_leaves_the_page(browser, page):
    browser.open(page)
    names = browser.run("Array.from(document.querySelectorAll('.gallery bdi'), name => name.textContent)")
    assert {"good/" + name.replace("\n", "␊") for name in HOSTILE} <= set(names)
    assert "<i>label/a.png" in names
    assert "<i>label" in browser.run("Array.from(document.querySelectorAll('.who'), name => name.textContent)")
    assert browser.run("document.title") == "Scores: parts"
    assert browser.run("document.querySelectorAll('bdi *:not(.folder), dd *, script').length") == 1
    links = browser.run("Array.from(document.querySelectorAll('.gallery a'), link => link.href)")
    assert all(link.startswith("file:///") for link in links), "no link is a script"
    events = [event["params"] for event in browser.events if event["method"] == "Network.requestWillBeSent"]
    addresses = {event["request"]["url"] for event in events}
    assert page.as_uri() in addresses
    assert all(address == page.as_uri() or address.startswith("data:image/") for address in addresses)
    assert not [event for event in browser.events if event["method"] in ("Runtime.exceptionThrown", "Log.entryAdded")]


def test_without_scripts_the_marks_lie_on_the_image(browser, page):
    browser.send("Emulation.setScriptExecutionDisabled", value=True)
    try:
        browser.open(page)
        boxes = browser.run(
            "Array.from(document.querySelector('.card[data-label=spot]').querySelectorAll('img'), i => "
            "i.getBoundingClientRect().toJSON())"
        )
        assert len(boxes) == 3
        assert boxes[0]["width"] > 100
        for box in boxes[1:]:
            assert [box[side] for side in ("x", "y", "width", "height")] == pytest.approx(
                [boxes[0][side] for side in ("x", "y", "width", "height")], abs=1
            )
        assert not browser.run("document.querySelector('.tools').checkVisibility()")
    finally:
        browser.send("Emulation.setScriptExecutionDisabled", value=False)
