"""`restore --uncertainty`: a map of σ beside each image."""

import errno
import os
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

import img2img
import img2img.imaging.writing
from img2img.cli import main
from img2img.imaging.parts import find_leftovers
from img2img.inference.journal import Journal
from img2img.tasks import UncertainRestoration
from tests.commands.models import UNCERTAIN, save_model
from tests.commands.processes import outputs

QUIET = ["--accelerator=cpu", "--precision=32-true"]


@pytest.fixture
def model(tmp_path) -> Path:
    return save_model(tmp_path / "model.ckpt", 0.1, recipe=UNCERTAIN)


@pytest.fixture
def scans(photo) -> Path:
    Path("in/sub").mkdir(parents=True)
    Image.fromarray(photo[:150, :203]).save("in/a.png")
    Image.fromarray(photo[:40, :60]).save("in/sub/b.JPG")
    return Path("in")


def argv(model: Path, *more: str, source: str = "in", output: str = "out", maps: str = "maps") -> list[str]:
    return ["restore", source, output, f"--model={model}", f"--uncertainty={maps}", *QUIET, *more]


def code_of(arguments: list[str]) -> int:
    try:
        main(arguments)
    except SystemExit as stop:
        return int(stop.code or 0)
    return 0


def test_every_image_gets_a_map_of_its_size_in_16_bits(model, scans, photo):
    Image.fromarray(photo[:40, :60]).save("in/sub/b.png")  # of two b the maps need two names
    Image.fromarray(photo[:7, :5, 0]).save("in/gray.png")
    Image.fromarray(np.dstack([photo[:20, :30], photo[:20, :30, :1]])).save("in/alpha.png")
    cv2.imwrite("in/deep.tif", photo[:20, :30].astype(np.uint16) * 257)
    pages = [Image.fromarray(photo[n : n + 20, :30]) for n in (0, 50, 100)]
    pages[0].save("in/pages.tif", save_all=True, append_images=pages[1:])
    main(["restore", "in", "plain", f"--model={model}", *QUIET])
    main(argv(model))
    assert outputs(Path("out")) == outputs(Path("plain"))
    names = ["a.png", "alpha.png", "deep.png", "gray.png", "pages.tif", "sub/b.JPG.png", "sub/b.png"]
    assert list(outputs(Path("maps"))) == names
    for name, size in (("a", (150, 203)), ("alpha", (20, 30)), ("deep", (20, 30)), ("gray", (7, 5))):
        found = cv2.imread(f"maps/{name}.png", cv2.IMREAD_UNCHANGED)
        assert (found.shape, found.dtype) == (size, np.uint16)
    read, several = cv2.imreadmulti("maps/pages.tif", flags=cv2.IMREAD_UNCHANGED)
    assert read
    task = img2img.load(model)
    for page, found in zip(pages, several, strict=True):
        tensor = torch.from_numpy(np.array(page) / np.float32(255)).permute(2, 0, 1)[None]
        with torch.inference_mode():
            sigma = task.estimate(tensor)[1].mean(1)[0].numpy()
        assert np.abs(found - np.minimum(262140.0 * sigma, 65535)).max() <= 1
        assert found.std() > 10


def test_the_page_shows_the_maps_and_the_run_says_their_scale(model, scans, capsys):
    main(argv(model, "--html"))
    assert "Maps: maps (white where σ is 0.25 or more" in capsys.readouterr().out
    assert (
        Path("out/restore_report.html").read_text("utf-8").count("σ of the error: black 0, white 0.125 or more</span>")
        == 2
    )
    main(["restore", "in", "out", f"--model={model}", "--overwrite", "--html", *QUIET])
    assert "σ of the error" not in Path("out/restore_report.html").read_text("utf-8")


def test_tiles_leave_no_trace_in_maps(model, scans):
    main(argv(model))
    main(argv(model, "--tile=40", output="tiled", maps="tiled_maps"))
    whole, tiled = (cv2.imread(f"{folder}/a.png", cv2.IMREAD_UNCHANGED) for folder in ("maps", "tiled_maps"))
    assert whole.std() > 10
    assert np.abs(whole.astype(int) - tiled).max() <= 1


def test_maps_of_a_network_that_sees_everything_are_blended_without_seams(scans):
    class Exposure(nn.Module):
        in_channels = 3

        def forward(self, x):
            return torch.cat([x - x.mean((2, 3), keepdim=True) / 4, torch.zeros_like(x)], 1)

    task = UncertainRestoration(Exposure()).eval()
    img2img.restore("in", "out", model=task, accelerator="cpu", precision="32-true", tile=70, uncertainty="maps")
    found = cv2.imread("maps/a.png", cv2.IMREAD_UNCHANGED)
    assert found.shape == (150, 203)
    assert np.abs(found - 262140 * np.exp(-3)).max() <= 1


def test_what_was_interrupted_between_map_and_image_gets_both(model, scans):
    main(argv(model))
    complete = outputs(Path("out")), outputs(Path("maps"))
    journal = Path("out/.img2img/journal-0.jsonl")
    lines = [line for line in journal.read_text().splitlines() if line]
    journal.write_text("\n".join(lines[:-1]))  # as a kill leaves it: begun, and not noted
    Path("maps", ".0123456789abcdef0123456789abcdef.part").touch()
    last = "sub/b" if '"sub/b.JPG"' in lines[-1] else "a"
    Path("out", last + (".JPG" if last == "sub/b" else ".png")).unlink()
    Path("maps", last + ".png").write_bytes(b"half made")
    assert code_of(argv(model)) == 0
    assert (outputs(Path("out")), outputs(Path("maps"))) == complete
    assert find_leftovers(Path("maps")) == []


def test_a_lost_map_is_made_again_and_an_edited_one_is_kept(model, scans, capsys):
    main(argv(model))
    first, moment = outputs(Path("maps")), Path("out/sub/b.JPG").stat().st_mtime_ns
    Path("maps/a.png").unlink()
    assert code_of(argv(model)) == 0
    assert outputs(Path("maps")) == first
    assert Path("out/sub/b.JPG").stat().st_mtime_ns == moment  # what was whole was left
    Path("maps/a.png").write_bytes(b"mine")
    assert code_of(argv(model)) == 2
    assert "maps/a.png exists" in capsys.readouterr().err
    assert code_of(argv(model, "--skip-existing")) == 0
    assert Path("maps/a.png").read_bytes() == b"mine"
    assert code_of(argv(model, "--overwrite")) == 0
    assert outputs(Path("maps")) == first


def test_an_image_that_cannot_be_written_leaves_no_map(model, scans, monkeypatch, capsys):
    publish = img2img.imaging.writing.publish

    def refuse(part: Path, target: Path, **how: bool) -> int:
        if target.parts[0] == "out" and target.name == "a.png":
            raise OSError(errno.EIO, os.strerror(errno.EIO), str(target))
        return publish(part, target, **how)

    monkeypatch.setattr(img2img.imaging.writing, "publish", refuse)
    assert code_of(argv(model)) == 1
    assert "a.png" in capsys.readouterr().err
    assert (list(outputs(Path("out"))), list(outputs(Path("maps")))) == (["sub/b.JPG"], ["sub/b.png"])
    assert find_leftovers(Path("maps")) == find_leftovers(Path("out")) == []


def test_without_maps_or_with_other_ones_it_is_another_run(model, scans, capsys):
    main(argv(model))
    assert code_of(argv(model, maps="elsewhere")) == 2
    assert "out/a.png exists" in capsys.readouterr().err
    assert not Path("elsewhere").exists()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"maps": "in/maps"}, "is inside the input in"),
        ({"maps": "out"}, "must lie apart"),
        ({"maps": "out/maps"}, "must lie apart"),
        ({"maps": "far", "output": "far/out"}, "must lie apart"),
        ({"maps": "in/a.png"}, "is a file"),
        ({"maps": "link"}, "belongs to the input"),
        ({"maps": "in", "source": "in/a.png"}, "belongs to the input"),
    ],
)
def test_maps_among_inputs_or_outputs_are_refused(model, scans, capsys, options, said):
    Path("link").mkdir()
    Path("link/sub").symlink_to(Path("in/sub").resolve())
    before = outputs(scans)
    assert code_of(argv(model, **options)) == 2
    error = capsys.readouterr().err.strip()
    assert said in error
    assert len(error.splitlines()) == 1
    assert outputs(scans) == before
    assert not Path("out").exists()


def test_a_model_that_knows_no_sigma_says_so(tmp_path, scans, capsys):
    assert code_of(argv(save_model(tmp_path / "plain.ckpt"))) == 2
    error = capsys.readouterr().err.strip()
    assert "(Restoration) does not say how sure it is" in error
    assert len(error.splitlines()) == 1


def test_two_runs_do_not_write_maps_into_one_folder_at_once(model, scans, capsys):
    other = Journal(Path("elsewhere"), {}, Path("maps"))
    other.begin(0, fresh=True)
    assert code_of(argv(model)) == 2
    assert "another img2img is writing into maps" in capsys.readouterr().err
    other.release()
    assert code_of(argv(model)) == 0


def test_one_image_and_predict_and_python(model, scans):
    main(argv(model, source="in/a.png", output="one.png"))
    assert list(outputs(Path("maps"))) == ["one.png"]
    task = img2img.load(model)
    img2img.restore("in", "python", model=task, accelerator="cpu", precision="32-true", uncertainty="python_maps")
    np.testing.assert_array_equal(cv2.imread("maps/one.png", -1), cv2.imread("python_maps/a.png", -1))
    flags = ["--restore.output=predicted", "--restore.uncertainty=predicted_maps"]
    sizes = ["--model.network.init_args.channels=[8,8]", "--model.network.init_args.blocks=1"]
    predict = ["predict", "--config=denoise_uncertain.yaml", "--restore.input=in", f"--model.weights={model}"]
    main([*predict, *sizes, "--trainer.accelerator=cpu", "--trainer.precision=32-true", *flags])
    assert outputs(Path("predicted_maps")) == outputs(Path("python_maps"))
