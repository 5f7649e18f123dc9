import base64
import hashlib
import re

import pytest

from img2img.inference.page import as_choices, as_image, as_name, as_number, as_text, read_template, write_page

TEMPLATE = """<meta content="${policy}"><style>
p {}
</style><h1>${title}</h1>
<!-- first -->
<hr>
<!-- second -->
<script>
run();
</script>
"""


def test_cards_go_to_their_sections_in_order_and_values_are_asked_for_last(tmp_path):
    seen = []

    def cards():
        for section, card in (("second", "<b>2</b>\n"), ("first", "<b>1</b>\n"), ("second", "<b>3</b>\n")):
            seen.append(card)
            yield section, card

    write_page(tmp_path / "new" / "p.html", TEMPLATE, cards(), lambda: {"title": as_text(f"{len(seen)} <cards>")})
    page = (tmp_path / "new" / "p.html").read_text("utf-8")
    assert "<h1>3 &lt;cards&gt;</h1>\n<b>1</b>\n<hr>\n<b>2</b>\n<b>3</b>\n<script>" in page


def test_a_page_that_may_not_be_replaced_stays(tmp_path):
    (tmp_path / "p.html").write_text("mine")
    with pytest.raises(FileExistsError):
        write_page(tmp_path / "p.html", TEMPLATE, [], lambda: {"title": ""}, replace=False)
    assert [path.read_text() for path in tmp_path.iterdir()] == ["mine"], "and nothing is left behind"


@pytest.mark.parametrize(
    ("package", "name"), [("img2img.inference", "report_page.html"), ("img2img.anomaly", "report.html")]
)
def test_the_policy_allows_the_style_and_the_script_that_are_in_the_page(tmp_path, package, name):
    template = read_template(package, name)
    values = dict.fromkeys(re.findall(r"\$\{(\w+)\}", template), "")
    values.pop("policy")
    write_page(tmp_path / "p.html", template, [], lambda: values)
    page = (tmp_path / "p.html").read_text("utf-8")
    assert ".gallery {" in page
    assert "IntersectionObserver" in page
    for tag in ("style", "script"):
        (content,) = re.findall(rf"<{tag}>(.*?)</{tag}>", page, re.DOTALL)
        digest = base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()
        assert f"{tag}-src 'sha256-{digest}'" in page
    assert not re.search(r"(src|href)=\"?(https?:)?//", page), "nothing comes from elsewhere"


def test_pieces_are_escaped():
    hostile = "\"><script>'\x00\udce4"
    for piece in (
        as_text(hostile),
        as_name(f"a/{hostile}"),
        as_choices({hostile: hostile}),
        as_image(b"", hostile, 1, 1),
    ):
        assert "<script>" not in piece
        assert "&lt;script&gt;" in piece
        piece.encode()
    assert as_name("a/b/c.png") == '<bdi><span class="folder">a/b/</span>c.png</bdi>'
    assert [as_number(value) for value in (0.123456, float("inf"), float("nan"))] == ["0.1235", "∞", "–"]
