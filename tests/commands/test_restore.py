from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from PIL import Image

import img2img
from img2img.cli import main
from tests.commands.models import save_model

QUIET = ["--accelerator", "cpu", "--precision", "32-true"]


def files(folder: str) -> list[str]:
    """All files under a folder but a run's report and journal."""
    found = (path.relative_to(folder) for path in Path(folder).rglob("*") if path.is_file())
    return sorted(path.as_posix() for path in found if path.parts[0] not in (".img2img", "restore_report.json"))


def test_a_folder_keeps_its_tree_names_sizes_and_depths(checkpoint, photo):
    Path("scans/köln & co").mkdir(parents=True)
    Image.fromarray(photo[:33, :50]).save("scans/a.png")
    Image.fromarray(photo[:1, :1]).save("scans/tiny.png")
    Image.fromarray(photo[:7, :5, 0]).save("scans/köln & co/gray.png")
    Image.fromarray(photo[:40, :60]).save("scans/köln & co/b.JPG")
    cv2.imwrite("scans/deep.tif", photo[:20, :30].astype(np.uint16) * 257)
    cv2.imwrite("scans/deep_gray.png", photo[:20, :30, 0].astype(np.uint16) * 257)
    Path("scans/notes.txt").write_text("not an image")
    before = {name: Path("scans", name).read_bytes() for name in files("scans")}
    main(["restore", "scans", "restored", "--model", str(checkpoint), *QUIET])
    assert files("restored") == [name for name in files("scans") if name != "notes.txt"]
    for name in files("restored"):
        source, result = (cv2.imread(f"{folder}/{name}", cv2.IMREAD_UNCHANGED) for folder in ("scans", "restored"))
        assert (result.shape, result.dtype) == (source.shape, source.dtype), name
        # two steps of training leave the image almost as it was: a wrong scale or channel order would show
        assert np.abs(result / np.iinfo(result.dtype).max - source / np.iinfo(source.dtype).max).mean() < 0.02, name
    assert before == {name: Path("scans", name).read_bytes() for name in files("scans")}


def test_alpha_is_carried(checkpoint, photo):
    alpha = photo[:20, :30, :1]
    Path("in").mkdir()
    Image.fromarray(np.concatenate([photo[:20, :30], alpha], 2)).save("in/a.png")
    main(["restore", "in", "out", "--model", str(checkpoint), *QUIET])
    np.testing.assert_array_equal(np.array(Image.open("out/a.png"))[..., 3:], alpha)


def test_one_image_to_a_name_of_its_own_or_into_a_folder(checkpoint, photo):
    Image.fromarray(photo[:20, :30]).save("photo.png")
    main(["restore", "photo.png", "out.jpg", "--model", str(checkpoint), *QUIET])
    assert Image.open("out.jpg").format == "JPEG"
    Path("folder").mkdir()
    main(["restore", "photo.png", "folder", "--model", str(checkpoint), *QUIET])
    assert files("folder") == ["photo.png"]
    main(["restore", "photo.png", "new", "--model", str(checkpoint), *QUIET])
    assert files("new") == ["photo.png"]
    with pytest.raises(SystemExit) as stop:
        main(["restore", "photo.png", "out.gif", "--model", str(checkpoint), *QUIET])
    assert stop.value.code == 2


def test_several_inputs_with_a_mask_each_and_going_on(tmp_path, photo, capsys):
    network = {"class_path": "img2img.networks.InpaintingUNet", "init_args": {"channels": [8, 8]}}
    recipe = {"class_path": "img2img.tasks.Inpainting", "init_args": {"network": network}}
    checkpoint = save_model(tmp_path / "fill.ckpt", recipe=recipe)
    Path("scans").mkdir()
    Path("masks/scans").mkdir(parents=True)
    for name in ("a.png", "scans/a.png"):
        Image.fromarray(photo[:20, :30]).save(name)
        Image.fromarray(np.eye(20, 30, dtype=np.uint8) * 255).save(f"masks/{name}")
    Path("scans/film.GIF").write_bytes(b"GIF89a")
    Path("scans/noname").write_bytes(b"")
    model = ["--model", str(checkpoint), "--mask", "masks", *QUIET]
    for output, said in (("scans/a.png", "is one file for several inputs"), ("out.png", "is one file for several")):
        with pytest.raises(SystemExit):
            main(["restore", "a.png", "scans", output, *model])
        assert said in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main(["restore", "a.png", "scans/a.png", "out", *model])
    assert "would both be named a.png" in capsys.readouterr().err
    assert not Path("out").exists()
    for more in (["--dry_run"], [], []):
        main(["restore", "a.png", *model, "scans", "out", *more])  # options may come between
        said = capsys.readouterr().out
        assert "passed over, in other formats: 1 .gif, 1 without a suffix" in said
    assert "Restored 0 image(s) into out, 2 were restored before" in said
    assert files("out") == ["a.png", "scans/a.png"]
    result = img2img.restore(["a.png", Path("scans")], "python", model=checkpoint, mask="masks", accelerator="cpu")
    assert [record.name for record in result.restored] == files("out")


def test_a_bad_file_is_named_the_others_go_on_and_the_exit_code_says_so(checkpoint, photo, capsys):
    Path("in").mkdir()
    Image.fromarray(photo[:20, :30]).save("in/good.png")
    Path("in/bad.png").write_bytes(b"")
    with pytest.raises(SystemExit) as stop:
        main(["restore", "in", "out", "--model", str(checkpoint), *QUIET])
    assert stop.value.code == 1
    assert "bad.png" in capsys.readouterr().err
    assert files("out") == ["good.png"]


@pytest.mark.parametrize("output", ["in", "in/deeper", "link"])
def test_originals_are_never_written_among(checkpoint, photo, output, capsys):
    Path("in").mkdir()
    Path("link").symlink_to("in")
    Image.fromarray(photo[:20, :30]).save("in/a.png")
    before = Path("in/a.png").read_bytes()
    with pytest.raises(SystemExit) as stop:
        main(["restore", "in", output, "--model", str(checkpoint), *QUIET])
    assert stop.value.code == 2
    assert "is inside the input" in capsys.readouterr().err
    assert Path("in/a.png").read_bytes() == before


def test_a_link_to_an_original_in_the_output_is_not_written_through(checkpoint, photo, capsys):
    Path("in").mkdir()
    Path("out").mkdir()
    Image.fromarray(photo[:20, :30]).save("in/a.png")
    Path("out/a.png").symlink_to(Path("in/a.png").resolve())
    before = Path("in/a.png").read_bytes()
    with pytest.raises(SystemExit):
        main(["restore", "in", "out", "--model", str(checkpoint), *QUIET])
    assert "would overwrite the source" in capsys.readouterr().err
    assert Path("in/a.png").read_bytes() == before


def test_from_python_with_a_loaded_model(checkpoint, photo):
    Path("in").mkdir()
    Image.fromarray(photo[:20, :30]).save("in/a.png")
    img2img.restore("in", "by_path", model=checkpoint, accelerator="cpu")
    img2img.restore("in", "by_task", model=img2img.load(checkpoint), accelerator="cpu")
    assert Path("by_path/a.png").read_bytes() == Path("by_task/a.png").read_bytes()


def test_a_checkpoint_that_is_none(photo, capsys):
    Image.fromarray(photo[:20, :30]).save("a.png")
    with pytest.raises(SystemExit) as stop:
        main(["restore", "a.png", "b.png", "--model", "a.png"])
    assert stop.value.code == 2
    assert "a.png is not a" in capsys.readouterr().err


def test_an_output_that_was_edited_is_not_replaced_by_going_on(checkpoint, photo, capsys):
    Path("in").mkdir()
    for name in ("a", "b"):
        Image.fromarray(photo[:20, :30]).save(f"in/{name}.png")
    argv = ["restore", "in", "out", "--model", str(checkpoint), *QUIET]
    main(argv)
    Path("out/a.png").write_bytes(Path("in/b.png").read_bytes() + b"retouched")
    with pytest.raises(SystemExit) as stop:
        main(argv)
    assert stop.value.code == 2
    assert "out/a.png exists" in capsys.readouterr().err
    main([*argv, "--skip-existing"])
    assert Path("out/a.png").read_bytes().endswith(b"retouched")
    main([*argv, "--overwrite"])
    assert not Path("out/a.png").read_bytes().endswith(b"retouched")


@pytest.mark.parametrize("tile", [16, 40, 48])
def test_tiles_of_images_of_one_size_do_not_mix(checkpoint, photo, tile):
    Path("in").mkdir()
    for number in range(3):
        Image.fromarray(photo[number : number + 100, :131]).save(f"in/{number}.png")
    main(["restore", "in", "whole", "--model", str(checkpoint), *QUIET])
    main(["restore", "in", "tiled", "--model", str(checkpoint), *QUIET, "--tile", str(tile)])
    for number in range(3):
        whole, tiled = (cv2.imread(f"{folder}/{number}.png").astype(int) for folder in ("whole", "tiled"))
        assert np.abs(whole - tiled).max() <= 1


def test_one_mask_serves_all_pages_and_a_changed_mask_is_another_run(program, photo, capsys):
    program("fit", "--trainer.max_steps=2", config="inpaint.yaml")
    Path("in").mkdir()
    Path("masks").mkdir()
    pages = [Image.fromarray(photo[n : n + 20, :30]) for n in range(3)]
    pages[0].save("in/a.tif", save_all=True, append_images=pages[1:])
    mask = np.zeros((20, 30), np.uint8)
    mask[4:9, 4:9] = 255
    Image.fromarray(mask).save("masks/a.png")
    argv = ["restore", "in", "out", "--model", "runs/inpaint/0/last.ckpt", "--mask", "masks", *QUIET]
    main(argv)
    with Image.open("out/a.tif") as restored:
        assert restored.n_frames == 3
        for number, page in enumerate(pages):
            restored.seek(number)
            changed = (np.array(restored) != np.array(page)).any(2)
            assert not changed[mask == 0].any()
            assert changed[mask > 0].any()
    Image.fromarray(255 - mask).save("masks/a.png")
    with pytest.raises(SystemExit):
        main(argv)
    assert "out/a.tif exists" in capsys.readouterr().err


def test_an_ensemble_leaves_the_callers_task_as_it_was(checkpoint, photo):
    task = img2img.load(checkpoint)
    Path("in").mkdir()
    Image.fromarray(photo[:20, :30]).save("in/a.png")
    known = {name: value for name, value in vars(task).items() if name != "_modules"}
    assert known["_trainer"] is None
    img2img.restore("in", "eight", model=task, accelerator="cpu", self_ensemble=True)
    found = {name: value for name, value in vars(task).items() if name in known}
    assert found.keys() == known.keys()
    assert all(found[name] is value or found[name] == value for name, value in known.items())
    assert not any(hasattr(task, name) for name in ("ensemble", "uncertainty"))


def test_a_dry_run_knows_what_a_run_has_done_whatever_its_precision(checkpoint, photo, capsys):
    Path("in").mkdir()
    Image.fromarray(photo[:20, :30]).save("in/a.png")
    argv = ["restore", "in", "out", "--model", str(checkpoint), "--accelerator=cpu", "--precision=bf16-mixed"]
    main(argv)
    Image.fromarray(photo[:30, :30]).save("in/b.png")
    capsys.readouterr()
    main([*argv, "--dry_run"])
    said = capsys.readouterr().out
    assert "already there: out/a.png" in said
    assert "in/b.png → out/b.png" in said


def test_a_callers_task_keeps_the_type_of_its_weights(checkpoint, photo):
    task = img2img.load(checkpoint)
    Path("in").mkdir()
    Image.fromarray(photo[:20, :30]).save("in/a.png")
    img2img.restore("in", "out", model=task, accelerator="cpu", precision="bf16-true")
    assert {weight.dtype for weight in task.parameters()} == {torch.float32}
