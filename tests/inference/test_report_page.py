"""The page of a report, in a real browser if there is one."""

import base64
import io
import os
import re

import numpy as np
import pytest
from PIL import Image as Pillow

from img2img.inference.journal import Record
from img2img.inference.report_page import write_report_page

HOSTILE = [
    "<img src=http://example.invalid/x.png onerror=\"document.title='run'\">.png",
    "</noscript></script><script>document.title='run'</script>.png",
    "a&amp;b \"double\" 'single' ${title} <!-- gallery -->.png",
    "Käse/صور/line\nbreak\x00\x7f #1?%20[n=2].png",
    "javascript:document.title='run'",
]
BEFORE = "getComputedStyle(document.querySelector('.gallery .two img')).clipPath"


def as_jpeg(pixels):
    file = io.BytesIO()
    Pillow.fromarray(pixels).save(file, "JPEG", quality=95)
    return file.getvalue()


def entry(name="a.png", status="restored", reason="", before=None, after=None, scores=None):
    size = (0, 0) if status == "failed" else (320, 320)
    pictures = {which: data for which, data in (("before", before), ("after", after)) if data is not None}
    return Record(name, f"in/{name}", status, reason, *size, seconds=1.5, scores=scores or {}), pictures


@pytest.fixture
def page(tmp_path, photo):
    """A dark and a bright picture of one photograph, hostile names, failures."""
    dark, bright = as_jpeg(photo // 4), as_jpeg(photo // 4 + 190)
    entries = [entry("2024/wine.png", before=dark, after=bright, scores={"PSNR": 31.237})]
    entries += [entry(name, before=dark, after=bright) for name in HOSTILE]
    entries += [entry("kept.png", "skipped", "already there", after=bright)]
    entries += [entry(f"<b>broken</b> {n}.jpg", "failed", f"{n}: <i>premature</i> end") for n in (1, 2)]
    write_report_page(tmp_path / "report.html", "Scans & <slides>", {"Model": "<denoise>", "Speed": "1 MP/s"}, entries)
    return tmp_path / "report.html"


def brightness(browser, selector):
    """The mean brightness of the left and the right half of an element on the screen."""
    box = browser.run(f"document.querySelector(`{selector}`).getBoundingClientRect().toJSON()")
    picture = browser.send("Page.captureScreenshot")["data"]
    window = Pillow.open(io.BytesIO(base64.b64decode(picture))).convert("L")
    gray = np.array(window.crop([round(box[side]) for side in ("left", "top", "right", "bottom")]), float)
    middle = gray.shape[1] // 2
    return gray[:, :middle].mean(), gray[:, middle:].mean()


def test_the_divider_follows_mouse_touch_and_keys(browser, page):
    browser.open(page)
    browser.wait("document.querySelectorAll('.gallery .two img').length >= 2")
    browser.run("Promise.all(Array.from(document.querySelectorAll('.gallery .two img'), image => image.decode()))")
    assert (
        browser.run("Array.from(document.querySelectorAll('.gallery .two img'), i => i.naturalWidth)")[:2] == [320] * 2
    )
    browser.run("document.querySelector('.gallery').scrollIntoView()")
    left, right = brightness(browser, ".gallery .pair")
    assert left < 100, "before on the left of the divider"
    assert right > 180, "after on its right"

    box = browser.run("document.querySelector('.gallery .pair').getBoundingClientRect().toJSON()")
    at, x = box["y"] + box["height"] * 0.3, (lambda share: box["x"] + box["width"] * share)
    browser.drag((x(0.5), at), (x(0.1), at))
    left, right = brightness(browser, ".gallery .pair")
    assert min(left, right) > 150, "dragged to the left, nearly all is after"
    assert browser.run("document.querySelector('.gallery input').value") == "10"
    browser.drag((x(0.3), at), (x(2), at))
    assert max(brightness(browser, ".gallery .pair")) < 120, "dragged beyond the right border, all is before"
    assert browser.run("document.querySelector('.zoomed')") is None, "a drag is not a click"

    browser.run("document.querySelector('.gallery input').focus()")
    browser.press("ArrowLeft")
    assert browser.run(BEFORE) == "inset(0px 1% 0px 0px)"
    label = browser.run("document.querySelector('.gallery input').ariaLabel")
    assert "before and after" in label
    assert "2024/wine.png" in label

    browser.send("Input.dispatchTouchEvent", type="touchStart", touchPoints=[{"x": x(0.9), "y": at}])
    for share in (0.7, 0.5, 0.25):
        browser.send("Input.dispatchTouchEvent", type="touchMove", touchPoints=[{"x": x(share), "y": at}])
    browser.send("Input.dispatchTouchEvent", type="touchEnd", touchPoints=[])
    assert browser.run("document.querySelector('.gallery input').value") == "25"


def test_a_click_enlarges_and_escape_ends_it(browser, page):
    browser.open(page)
    browser.wait("document.querySelector('.gallery .divider')")
    browser.run("document.querySelector('.gallery').scrollIntoView()")
    box = browser.run("document.querySelector('.gallery .pair').getBoundingClientRect().toJSON()")
    for kind in ("mousePressed", "mouseReleased"):
        browser.mouse(kind, box["x"] + 50, box["y"] + 50)
    widths = "['.gallery', '.zoomed', '.zoomed .pair'].map(one => document.querySelector(one).offsetWidth)"
    gallery, card, picture = browser.run(widths)
    assert card == gallery
    assert picture > 1.5 * box["width"]
    browser.press("Escape")
    assert browser.run("document.querySelector('.zoomed')") is None
    browser.run("document.querySelector('.enlarge').click()")
    assert browser.run("document.querySelector('.zoomed .enlarge').ariaPressed") == "true"


def test_names_and_reasons_are_text_and_nothing_leaves_the_page(browser, page):
    browser.open(page)
    browser.wait("document.querySelectorAll('.divider').length > 3")
    names = browser.run("Array.from(document.querySelectorAll('.gallery bdi'), name => name.textContent)")
    shown = [name.replace("\n", "␊").replace("\x00", "␀").replace("\x7f", "␡") for name in HOSTILE]
    assert names == ["2024/wine.png", *shown, "kept.png"]
    assert browser.run("document.title") == "Scans & <slides>"
    assert browser.run("document.querySelector('dd').textContent") == "<denoise>"
    problems = browser.run("document.querySelector('.problems').innerText")
    assert "<b>broken</b> 1.jpg" in problems
    assert "1: <i>premature</i> end" in problems
    assert browser.run("document.querySelectorAll('bdi *:not(.folder), .reason *, dd *, script').length") == 1
    links = browser.run("Array.from(document.querySelectorAll('.gallery a'), link => link.href)")
    assert all(link.startswith(page.parent.as_uri() + "/") for link in links), "no link is a script or leads elsewhere"

    events = [event["params"] for event in browser.events if event["method"] == "Network.requestWillBeSent"]
    addresses = {event["request"]["url"] for event in events}
    assert page.as_uri() in addresses
    assert all(address == page.as_uri() or address.startswith("data:image/") for address in addresses)
    faults = [event for event in browser.events if event["method"] in ("Runtime.exceptionThrown", "Log.entryAdded")]
    assert not faults, "no error, and nothing that the page's own policy forbids"
    refused = """new Promise(done => {
        document.addEventListener("securitypolicyviolation", event => done(event.effectiveDirective));
        document.body.append(Object.assign(new Image(), {src: "http://127.0.0.1:9/x.png"}));
    })"""
    assert browser.run(refused) == "img-src", "the policy stops any request"


def test_the_filter_and_the_choice_of_failed(browser, page):
    browser.open(page)
    visible = "Array.from(document.querySelectorAll('.card'), card => card.checkVisibility()).filter(Boolean).length"
    assert browser.run(visible) == 9
    assert browser.run("document.querySelector('.card').dataset.status") == "failed", "failures come first"
    browser.run("document.querySelector('button[value=failed]').click()")
    assert browser.run(visible) == 2
    browser.run("document.querySelector('.choice button').click()")
    browser.run("document.getElementById('filter').focus()")
    browser.send("Input.insertText", text="WINE")
    assert browser.run(visible) == 1
    assert browser.run("document.getElementById('shown').textContent") == "1 of 9 images"
    browser.send("Input.insertText", text="x")
    assert browser.run("document.getElementById('shown').textContent") == "No image matches"


def test_the_filter_works_if_all_files_have_the_same_status(browser, tmp_path, photo):
    entries = [entry(f"{name}.png", after=as_jpeg(photo // 4)) for name in ("one", "two")]
    write_report_page(tmp_path / "report.html", "All well", {}, entries)
    browser.open(tmp_path / "report.html")
    browser.run("document.getElementById('filter').focus()")
    browser.send("Input.insertText", text="two")
    assert browser.run("document.getElementById('shown').textContent") == "1 of 2 images"


def test_without_scripts_the_pictures_stand_side_by_side(browser, page):
    browser.send("Emulation.setScriptExecutionDisabled", value=True)
    try:
        browser.open(page)
        boxes = browser.run(
            "Array.from(document.querySelectorAll('.two img'), i => i.getBoundingClientRect().toJSON())"
        )
        assert boxes[0]["y"] == boxes[1]["y"]
        assert boxes[0]["right"] < boxes[1]["left"]
        assert boxes[0]["height"] == pytest.approx(boxes[0]["width"], abs=1)
        browser.run("document.querySelector('.two img').scrollIntoView()")
        left, right = brightness(browser, ".two .pair")
        assert left < 100
        assert right > 180
    finally:
        browser.send("Emulation.setScriptExecutionDisabled", value=False)


def test_the_page_is_written_as_entries_come_and_appears_whole(tmp_path):
    target = tmp_path / "new" / "report.html"
    picture = os.urandom(100_000)

    def entries(fail):
        for n in range(30):
            yield entry(f"{n}.png", before=picture, after=picture)
            assert not target.exists(), "no page before it is complete"
        if fail:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_report_page(target, "t", {}, entries(fail=True))
    assert list(target.parent.iterdir()) == [], "nothing is left behind"
    write_report_page(target, "t", {}, entries(fail=False))
    assert [path.name for path in target.parent.iterdir()] == ["report.html"]
    text = target.read_text("utf-8")
    assert text.count(base64.b64encode(picture).decode()) == 60
    assert text.endswith("</html>\n")


def test_memory_does_not_grow_with_the_number_of_images(tmp_path):
    import tracemalloc

    picture = os.urandom(300_000)

    def peak(count):
        tracemalloc.start()
        write_report_page(tmp_path / "r.html", "t", {}, (entry(f"{n}.png", before=picture) for n in range(count)))
        return tracemalloc.get_traced_memory()[1], tracemalloc.stop()

    assert peak(40)[0] < peak(4)[0] + 300_000


def test_names_that_are_not_utf8_are_shown_and_linked(tmp_path):
    name = os.fsdecode(b"b\xe4ume [n=1] 100%.png")
    write_report_page(tmp_path / "r.html", name, {name: name}, [entry(name), entry(name, "failed", name)])
    text = (tmp_path / "r.html").read_text("utf-8")
    assert "b\ufffdume [n=1] 100%.png" in text
    assert 'href="./b%E4ume%20%5Bn%3D1%5D%20100%25.png"' in text


def test_an_empty_page_and_odd_values(tmp_path):
    write_report_page(tmp_path / "r.html", "t", {}, [])
    assert "No images" in (tmp_path / "r.html").read_text("utf-8")
    scores = {"PSNR": float("inf"), "SSIM": float("nan"), "LPIPS": 0.123456}
    write_report_page(tmp_path / "r.html", "t", {}, [entry(scores=scores)])
    text = re.sub("<[^>]*>", "", (tmp_path / "r.html").read_text("utf-8"))
    assert "PSNR ∞" in text
    assert "SSIM –" in text
    assert "LPIPS 0.1235" in text
    with pytest.raises(ValueError, match="'done'; it must be one of restored, skipped, failed"):
        entry(status="done")
