"""The page of scored images: what it says and what it holds."""

import base64
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
from tests.anomaly.report_cards import cards, text_of, words

CPU = {"accelerator": "cpu", "devices": 1}


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
