"""What a report says of the strength and of risks: in the file, and on the page in a real browser if there is one."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import img2img
from img2img.inference.report_page import write_report_page
from img2img.inference.risk import Risk
from tests.commands.models import save_model
from tests.inference.test_report_page import as_jpeg, brightness, entry

QUICK = {"accelerator": "cpu", "precision": "32-true"}


def turn(browser, percent):
    browser.run(
        f"""new Promise(done => {{
        const dial = document.getElementById("strength");
        dial.value = {percent};
        dial.dispatchEvent(new Event("input", {{ bubbles: true }}));
        setTimeout(done, 300);
    }})"""
    )


@pytest.mark.parametrize("made", [1.0, 0.5])
def test_the_slider_shows_any_strength(browser, tmp_path, photo, made):
    """Before is 20 brighter than a quarter of the photograph; the full restoration adds 100 to that."""
    before, after = photo // 4 + 20, photo // 4 + 20 + int(100 * made)
    pictures = {"before": as_jpeg(before), "after": as_jpeg(after)}
    entries = [entry(f"{n}.png", **pictures) for n in range(2)]
    write_report_page(tmp_path / "r.html", "t", {}, entries, strength=made)
    browser.open(tmp_path / "r.html")
    browser.wait("document.querySelectorAll('.gallery .divider').length == 2")
    browser.run("document.querySelector('.gallery').scrollIntoView()")
    browser.wait("document.querySelector('.on-screen')")
    assert browser.run("document.getElementById('strength').value") == str(int(100 * made))
    left, right = brightness(browser, ".pair")
    assert right - left == pytest.approx(100 * made, abs=16), "the run's own strength; the knob covers a little"
    seen = {}
    for percent in (0, 25, 50, 100, 150):
        turn(browser, percent)
        seen[percent] = brightness(browser, ".pair")
        assert seen[percent][0] == pytest.approx(left, abs=1), "before stays"
    zero = seen[0][1]
    for percent, (_, right) in seen.items():
        assert right - zero == pytest.approx(percent, abs=0.1 * percent + 2), percent
    caption = browser.run("document.querySelector('figcaption span:last-child').textContent")
    told = browser.run("document.querySelector('output').textContent")
    assert caption == "after, 150 %"
    assert told == "150 % (--strength 1.5)"
    turn(browser, int(100 * made))
    assert browser.run("document.querySelectorAll('canvas').length") == 0, "the pictures themselves again"
    label = browser.run("document.getElementById('strength').labels[0].textContent")
    assert label.startswith("Strength")
    faults = [event for event in browser.events if event["method"] in ("Runtime.exceptionThrown", "Log.entryAdded")]
    assert not faults


def test_without_a_change_there_is_no_slider(browser, tmp_path, photo):
    pictures = {"before": as_jpeg(photo), "after": as_jpeg(photo)}
    write_report_page(tmp_path / "r.html", "t", {}, [entry("a.png", **pictures)], strength=0.0)
    browser.open(tmp_path / "r.html")
    browser.wait("document.querySelector('.gallery .divider')")
    assert not browser.run("document.getElementById('strength').checkVisibility()")
    assert browser.run("document.querySelectorAll('canvas').length") == 0


def test_what_to_look_at_comes_first_with_its_reasons(browser, tmp_path, photo):
    pictures = {"before": as_jpeg(photo), "after": as_jpeg(photo)}
    entries = [entry(name, **pictures) for name in ("b.png", "c.png", "a.png")]
    risks = {"b.png": Risk(3.0, ("<b>gone</b>", "black")), "c.png": Risk(2.0, ("changed",)), "a.png": Risk(0.2, ())}
    write_report_page(tmp_path / "r.html", "t", {}, [*entries, entry("bad.png", "failed", "bad")], risks=risks)
    browser.open(tmp_path / "r.html")
    visible = "Array.from(document.querySelectorAll('h2')).filter(e => e.checkVisibility()).map(e => e.textContent)"
    assert browser.run(visible) == ["Not restored", "Look at these first", "The others"]
    names = "Array.from(document.querySelectorAll('.card bdi'), e => e.textContent)"
    assert browser.run(names) == ["bad.png", "b.png", "c.png", "a.png"]
    assert browser.run("document.querySelector('.first .risks').innerText") == "<b>gone</b>\nblack"
    browser.run("document.getElementById('filter').focus()")
    browser.send("Input.insertText", text="a.png")
    assert browser.run(visible) == ["The others"]


def test_the_report_names_what_to_look_at_with_the_reason(tmp_path, photo):
    Path("in").mkdir()
    for number in range(4):
        Image.fromarray(np.roll(photo, number, 1)).save(f"in/{number}.png")
    Image.fromarray(np.full_like(photo, 120)).save("in/blank.png")
    model = save_model(tmp_path / "model.ckpt")
    result = img2img.restore("in", "out", model, strength=0.25, html=True, **QUICK)
    assert list(result.look_first) == ["blank.png"]
    report = json.loads(Path("out/restore_report.json").read_text())
    assert report["strength"] == 0.25
    reason = "nearly empty: its values vary by 0.0 of 255 levels only"
    assert report["look_at_these_first"] == [{"name": "blank.png", "value": 1.0, "reasons": [reason]}]
    assert set(report["files"][0]["measures"]) == {"change", "clipped", "noise", "spread", "spread_before"}
    page = Path("out/restore_report.html").read_text()
    assert page.index("Look at these first") < page.index("nearly empty") < page.index(">3.png<")
    assert "<dt>Strength</dt><dd>25 %</dd>" in page
    again = img2img.restore("in", "out", model, strength=0.25, html=True, **QUICK)
    assert again.look_first == result.look_first, "what was measured is in the journal"
