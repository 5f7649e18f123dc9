"""The example of docs/serve.md is run against a server; its table of statuses is complete."""

import re
import shutil
import subprocess

import pytest

from tests.imaging.samples import smooth
from tests.pages import ROOT, blocks
from tests.serve.serving import as_file, pixels_of

PAGE = ROOT / "docs" / "serve.md"


@pytest.mark.skipif(shutil.which("curl") is None, reason="no curl on this machine")
def test_the_example_for_programs(client, tmp_path):
    (example,) = [block for block in blocks(PAGE) if "curl" in block.text]
    (tmp_path / "scan.png").write_bytes(as_file(smooth()))
    command = example.text.replace("$ADDRESS/", client.server.address).replace("model=denoise", "model=plain")
    subprocess.run(["sh", "-ec", command], cwd=tmp_path, check=True, capture_output=True)
    assert pixels_of((tmp_path / "restored.png").read_bytes()).shape == smooth().shape


def test_every_status_that_programs_may_get_is_listed():
    listed = set(map(int, re.findall(r"\b[2-5]\d\d\b", PAGE.read_text(encoding="utf-8").rpartition("| status")[2])))
    code = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "img2img" / "serve").glob("*.py"))
    used = set(map(int, re.findall(r"Refused\((\d+)", code)))
    assert used - listed == {409}, "of the page's own routes"
