"""Before training, near-duplicates of training images in validation or test are named."""

import warnings
from pathlib import Path

import pytest
from PIL import Image

from img2img.callbacks.leaks import recurring_images
from img2img.cli import main
from img2img.data import WholeImages
from tests.anomaly.calibrated import pieces


def whole(root: Path, **options: object) -> WholeImages:
    return WholeImages(root=str(root), image_size=[24, 24], channels=1, seed=0, **options)


@pytest.fixture
def root(tmp_path) -> Path:
    """Twelve parts, each photographed twice, the second time in other light and one pixel to the side."""
    for path in sorted(pieces(tmp_path / "parts", 12, size=(60, 50)).iterdir()):
        image = Image.open(path)
        image.save(path.with_name(f"part{path.stem}_a.png"))
        darker = image.point(lambda value: 0.7 * value).crop((1, 0, *image.size))
        darker.save(path.with_name(f"part{path.stem}_b.jpg"), quality=90)
        path.unlink()
    return tmp_path / "parts"


def test_recurring_parts_are_named_and_grouping_separates_them(root):
    lines = recurring_images(whole(root, share=0.25))
    assert [line.split(" are near-duplicates")[0].split(" of ")[1] for line in lines] == [
        "6 validation image(s)",
        "6 test image(s)",
    ]
    for line in lines:
        first = line.split("new parts: ")[1].split(")")[0]
        seen, known = first.split(" (like ")
        assert seen.split("_")[0] == known.split("_")[0]
        assert seen != known
        assert "--data.group_by" in line
    assert recurring_images(whole(root, share=0.25, group_by=r"part(\d+)")) == []


def test_validation_images_that_also_serve_as_test_are_named_once(root, tmp_path):
    for name in ("train", "val"):
        (tmp_path / "divided" / name).mkdir(parents=True)
    for path in root.iterdir():
        path.rename(tmp_path / "divided" / ("train" if "_a" in path.name else "val") / path.name)
    (tmp_path / "divided" / "val" / "broken.png").write_bytes(b"no image")
    (line,) = recurring_images(whole(tmp_path / "divided"))
    assert line.startswith("12 of 12 validation image(s)")
    assert "and 2 more" in line


def test_nothing_held_out_is_nothing_to_say(root):
    assert recurring_images(whole(root, share=0)) == []


def test_fit_warns_and_takes_the_grouping(root):
    command = [
        *("fit", "--config=autoencode.yaml", f"--data.root={root}", "--data.share=0.25", "--trainer.max_steps=1"),
        *("--data.image_size=[24,24]", "--data.channels=1", "--trainer.accelerator=cpu"),
        *("--model.network.init_args.image_size=[24,24]", "--model.network.init_args.in_channels=1"),
        *("--model.network.init_args.channels=[4,8]", "--trainer.enable_progress_bar=false"),
    ]
    with pytest.warns(UserWarning, match=r"of 6 validation image\(s\) are near-duplicates of training images"):
        main(command)
    with warnings.catch_warnings(record=True) as caught:
        main([*command, r"--data.group_by=part(\d+)"])
    assert not any("near-duplicates" in str(warning.message) for warning in caught)
    assert r"group_by: part(\d+)" in Path("runs/autoencode/1/config.yaml").read_text()
