"""The page in a real browser, if there is one: drop, compare, strength, paint, download, keys, dark and narrow."""

import base64
import io
import zipfile

import numpy as np
import pytest
from PIL import Image

from tests.imaging.samples import smooth
from tests.serve.serving import as_file, pixels_of, until


@pytest.fixture
def page(browser, client, tmp_path):
    """The page, opened, with a folder for downloads."""
    downloads = tmp_path / "downloads"
    downloads.mkdir()
    browser.send("Browser.setDownloadBehavior", behavior="allow", downloadPath=str(downloads))
    browser.open(client.server.address)
    browser.wait("document.querySelectorAll('#model option').length")
    yield Page(browser, client, downloads)
    logged = [event["params"]["entry"]["text"] for event in browser.events if event["method"] == "Log.entryAdded"]
    wrong = [text for text in logged if "a status of 422" not in text]  # which the page shows
    thrown = [event["params"] for event in browser.events if event["method"] == "Runtime.exceptionThrown"]
    assert (wrong, thrown) == ([], [])
    asked = [
        event["params"]["request"]["url"] for event in browser.events if event["method"] == "Network.requestWillBeSent"
    ]
    assert [url for url in asked if not url.startswith(client.server.address)] == [], "nothing outside is asked"
    browser.open("about:blank")


class Page:
    def __init__(self, browser, client, downloads):
        self.browser, self.client, self.downloads = browser, client, downloads

    def drop(self, *files):
        box = self.box("#drop")
        at = {"x": box["x"] + box["width"] / 2, "y": box["y"] + 20}
        data = {"items": [], "files": [str(file) for file in files], "dragOperationsMask": 1}
        for kind in ("dragEnter", "dragOver", "drop"):
            self.browser.send("Input.dispatchDragEvent", type=kind, data=data, **at)

    def box(self, selector):
        self.browser.run(f"document.querySelector(`{selector}`).scrollIntoView({{block: 'center'}})")
        return self.browser.run(f"document.querySelector(`{selector}`).getBoundingClientRect().toJSON()")

    def click(self, selector):
        box = self.box(selector)
        at = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
        self.browser.mouse("mousePressed", *at)
        self.browser.mouse("mouseReleased", *at)

    def wait(self, condition):
        self.browser.wait(condition)

    def restored(self, count):
        self.wait(
            f"document.querySelectorAll('.card[data-state=restored] canvas.after:not([hidden])').length === {count}"
        )

    def choose(self, model):
        self.browser.run(f"$('model').value = '{model}', $('model').dispatchEvent(new Event('change'))")

    def strength(self, percent):
        self.browser.run(f"$('strength').value = {percent}, $('strength').dispatchEvent(new Event('input'))")
        self.wait(f"document.querySelector('.download').href.endsWith('strength={percent / 100:g}')")

    def after(self, number=0):
        """The pixels of the canvas that shows the result."""
        script = f"document.querySelectorAll('canvas.after')[{number}].toDataURL('image/png').split(',')[1]"
        return pixels_of(base64.b64decode(self.browser.run(script)))[..., :3]

    def before(self):
        script = """(() => { const image = document.querySelector('.before'), canvas = document.createElement('canvas');
            canvas.width = image.naturalWidth; canvas.height = image.naturalHeight;
            canvas.getContext('2d').drawImage(image, 0, 0); return canvas.toDataURL('image/png').split(',')[1]; })()"""
        return pixels_of(base64.b64decode(self.browser.run(script)))[..., :3]

    def downloaded(self, name):
        file = self.downloads / name  # which is empty until the last byte is there
        until(lambda: file.exists() and file.stat().st_size and not list(self.downloads.glob("*.crdownload")))
        return file.read_bytes()


@pytest.fixture
def pictures(tmp_path, photo):
    files = []
    for n, name in enumerate(("one.png", "two.jpg", "three.png")):
        file = tmp_path / name
        Image.fromarray(np.roll(photo, 40 * n, 1)[: 200 + 20 * n]).save(file, quality=95)
        files.append(file)
    return files


def test_three_dropped_pictures_are_compared_turned_and_downloaded(page, pictures, photo):
    page.drop(*pictures)
    page.restored(3)
    assert page.browser.run("$('shown').textContent") == "3 of 3 restored"
    assert page.browser.run("Array.from(document.querySelectorAll('bdi'), one => one.textContent)") == [
        "one.png", "two.jpg", "three.png",
    ]  # fmt: skip

    box = page.box(".pair")
    at, x = box["y"] + box["height"] * 0.3, lambda share: box["x"] + box["width"] * share
    page.browser.drag((x(0.5), at), (x(0.2), at))
    assert page.browser.run("document.querySelector('.pair input').value") == "20"
    page.browser.run("document.querySelector('.pair input').focus()")
    page.browser.press("ArrowRight")
    assert page.browser.run("document.querySelector('.pair').style.getPropertyValue('--at')") == "21%"

    full, before = page.after(), page.before()
    assert (full != before).any()
    page.strength(0)
    np.testing.assert_array_equal(page.after(), before)
    page.strength(50)
    assert np.abs(page.after() - (full.astype(float) + before) / 2).max() <= 1.5
    page.strength(150)
    further = np.abs(page.after().astype(int) - before) - np.abs(full.astype(int) - before)
    assert further.min() >= -1
    assert further.mean() > 0

    page.strength(0)
    page.click(".download")
    np.testing.assert_array_equal(pixels_of(page.downloaded("one.png")), photo[:200])
    page.click("#all")
    archive = zipfile.ZipFile(io.BytesIO(page.downloaded("restored.zip")))
    assert sorted(archive.namelist()) == ["one.png", "three.png", "two.jpg"]
    np.testing.assert_array_equal(pixels_of(archive.read("three.png")), np.roll(photo, 80, 1)[:240])


def test_a_folder_keeps_its_tree_and_other_files_are_passed_over(page, pictures, tmp_path):
    folder = tmp_path / "trip"
    (folder / "day 1" / ".hidden").mkdir(parents=True)
    pictures[0].rename(folder / "day 1" / "a.png")
    pictures[1].rename(folder / "day 1" / ".hidden" / "b.jpg")
    (folder / "notes.txt").write_text("x")
    page.drop(folder, pictures[2])
    page.restored(2)
    names = page.browser.run("Array.from(document.querySelectorAll('bdi'), one => one.textContent).sort()")
    assert names == ["three.png", "trip/day 1/a.png"]
    assert "2 files are not named like a picture" in page.browser.run("$('trouble').textContent")


def test_a_hole_is_painted_and_filled(page, pictures):
    page.choose("fill")
    page.drop(pictures[0])
    page.wait("document.querySelector('.holes') && !document.querySelector('.holes').hidden")
    assert "paint" in page.browser.run("$('shown').textContent")
    page.click(".holes")
    page.wait("!document.querySelector('.paint').hidden && document.querySelector('.paint').width === 320")
    page.click(".fill")
    page.wait("!document.querySelector('.reason').hidden")
    assert "nothing is painted" in page.browser.run("document.querySelector('.reason').textContent")
    page.browser.run("document.querySelector('.size').value = 20")
    box = page.box(".paint")
    at = [(box["x"] + box["width"] * share, box["y"] + box["height"] * 0.25) for share in (0.2, 0.5)]
    page.browser.drag(*at)
    page.click(".fill")
    page.restored(1)
    page.click(".download")
    got, given = pixels_of(page.downloaded("one.png")), np.array(Image.open(pictures[0]))
    changed = (got != given).any(2)
    rows, columns = np.nonzero(changed)
    assert rows.min() >= 30 and rows.max() <= 70, "a stroke at a quarter of the height"  # noqa: PT018
    assert columns.min() >= 45 and columns.max() <= 180  # noqa: PT018
    assert changed[45:55, 70:155].mean() > 0.9


def test_keys_alone_paint_a_hole(page, pictures):
    page.choose("fill")
    page.drop(pictures[0])
    page.wait("document.querySelector('.holes') && !document.querySelector('.holes').hidden")
    page.browser.run("document.querySelector('.holes').click()")
    page.wait("document.activeElement.matches('.paint')")
    page.browser.press("ArrowLeft")
    page.browser.run("document.activeElement.dispatchEvent(new KeyboardEvent('keydown', {key: ' ', bubbles: true}))")
    page.browser.run("document.querySelector('.fill').click()")
    page.restored(1)
    assert page.browser.run("document.querySelector('.details').textContent").count("fill") == 1


def test_the_error_that_a_model_estimates_is_shown(page, pictures):
    page.choose("unsure")
    assert not page.browser.run("$('uncertain').hidden")
    page.click("#uncertain input")
    page.drop(pictures[0])
    page.restored(1)
    page.click(".show-sigma")
    page.wait("document.querySelector('.sigma').naturalWidth === 320 && !document.querySelector('.sigma').hidden")
    assert page.browser.run("document.querySelector('figcaption .right').textContent").startswith("σ")
    page.click(".map")
    assert pixels_of(page.downloaded("one.uncertainty.png")).dtype == np.uint16


def test_another_model_restores_again(page, pictures):
    page.drop(pictures[0])
    page.restored(1)
    first = page.after()
    page.choose("double")
    page.click("#again")
    page.wait("document.querySelector('canvas.after').width === 640")
    page.restored(1)
    assert page.after().shape == (2 * first.shape[0], 640, 3)


def test_what_the_server_holds_is_there_after_a_reload_until_it_is_removed(page, pictures):
    page.drop(*pictures)
    page.restored(3)
    page.browser.open(page.client.server.address)
    page.restored(3)
    page.click(".card .remove")
    page.wait("document.querySelectorAll('.card').length === 2")
    page.click("#clear")
    page.wait("!document.querySelector('.card')")
    page.wait("fetch('state').then(answer => answer.json()).then(found => found.pictures.length === 0)")


def test_a_pasted_picture_and_hostile_names(page):
    hostile = "<img src=x onerror=\"document.title='run'\">.png"
    data = base64.b64encode(as_file(smooth())).decode()
    page.browser.run(f"""(() => {{
        const bytes = Uint8Array.from(atob('{data}'), one => one.charCodeAt());
        const moved = new DataTransfer();
        moved.items.add(new File([bytes], `{hostile}`));
        document.dispatchEvent(new ClipboardEvent('paste', {{clipboardData: moved}}));
    }})()""")
    page.restored(1)
    assert page.browser.run("document.querySelector('bdi').textContent") == hostile
    assert page.browser.run("document.title") == "img2img"
    assert page.browser.run("document.querySelectorAll('.gallery img[src=x]').length") == 0


def test_damaged_and_huge_files_say_why(page, pictures, tmp_path):
    cut = tmp_path / "cut.png"
    cut.write_bytes(pictures[0].read_bytes()[:5000])
    huge = tmp_path / "huge.tif"
    with open(huge, "wb") as file:
        file.truncate(6_000_000)
    page.drop(cut, huge, pictures[1])
    page.restored(1)
    page.wait("document.querySelectorAll('.card[data-state=failed]').length === 2")
    reasons = page.browser.run(
        "Array.from(document.querySelectorAll('.reason:not([hidden])'), one => one.textContent).sort()"
    )
    assert reasons[0].startswith("cannot read cut.png: ")
    assert reasons[1].startswith("huge.tif is larger than 5 MB")
    assert page.browser.run("$('shown').textContent") == "1 of 3 restored, 2 failed"


def test_every_control_has_a_name(page, pictures):
    page.choose("unsure")
    page.drop(*pictures)
    page.restored(3)
    tree = page.browser.send("Accessibility.getFullAXTree")["nodes"]
    controls = [
        node
        for node in tree
        if node.get("role", {}).get("value") in ("button", "slider", "combobox", "checkbox", "link", "image")
    ]
    assert len(controls) > 15
    nameless = [node for node in controls if not node["ignored"] and not node.get("name", {}).get("value")]
    assert nameless == []
