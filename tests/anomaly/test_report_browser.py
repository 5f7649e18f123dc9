"""How the page of scored images behaves in a real browser."""

import re
from pathlib import Path

import pytest

import img2img
from tests.anomaly.report_cards import cards, text_of, words

CPU = {"accelerator": "cpu", "devices": 1}
HOSTILE = [
    "<img src=x onerror=\"document.title='run'\">.png",
    "<script>document.title='run'<!-- gallery -->.png",
    "a&amp;b \"double\" 'single' ${title}.png",
    "line\nbreak #1?%20.png",
    "javascript:document.title='run'.png",
]

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
