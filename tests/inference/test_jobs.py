import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from img2img.errors import UserError
from img2img.imaging.formats import Header
from img2img.inference.groups import in_groups, shard
from img2img.inference.jobs import Job, list_jobs, name_outputs


def job(name: str, width: int = 10, height: int = 10, pages: int = 1) -> Job:
    header = Header(width, height, 3, False, np.dtype(np.uint8), pages, "png", {})
    return Job(Path("in", name), Path("out", name), name, header)


@pytest.mark.parametrize(
    ("names", "format", "expected"),
    [
        (["a.jpg", "b/c.TIF"], "keep", ["a.jpg", "b/c.TIF"]),
        (["a.jpg", "b.JPEG", "c.png"], "jpeg", ["a.jpg", "b.JPEG", "c.jpg"]),
        (["a.tif", "b.jpg"], "tiff", ["a.tif", "b.tif"]),
        (["a.jpg", "a.png"], "png", ["a.jpg.png", "a.png"]),
        (["a.jpg", "a.webp"], "png", ["a.jpg.png", "a.webp.png"]),
        (["a.jpg", "a.jpg.png", "a.png"], "png", ["a.jpg (2).png", "a.jpg.png", "a.png"]),
        (["a.heic", "b.heif", "b.avif"], "keep", ["a.avif", "b.heif.avif", "b.avif"]),
        (["x.y/a.jpg", "a"], "webp", ["x.y/a.webp", "a.webp"]),
    ],
)
def test_outputs_are_named_after_inputs_and_never_collide(names, format, expected):
    found = name_outputs(names, format)
    assert sorted(found) == sorted(expected)
    assert len(set(found)) == len(names)


def test_names_that_differ_only_in_case_stay_apart_on_disks_that_fold_case():
    assert name_outputs(["A.png", "a.png"], "keep") == ["A.png", "a.png"]
    assert name_outputs(["A.png", "a.png"], "keep", folds_case=True) == ["A.png", "a (2).png"]


@pytest.mark.parametrize("folds_case", [False, True])
def test_two_unicode_spellings_of_a_name_stay_apart(folds_case):
    composed, decomposed = "caf\u00e9.png", "cafe\u0301.png"
    assert name_outputs([decomposed, composed], "keep", folds_case) == [decomposed, "caf\u00e9 (2).png"]
    assert name_outputs(["caf\u00e9/a.png", "cafe\u0301/a.png"], "keep", folds_case)[1] == "cafe\u0301/a (2).png"


def test_headers_are_read_and_unreadable_files_have_a_problem(tmp_path, photo):
    source = tmp_path / "in"
    source.mkdir()
    Image.fromarray(photo[:20, :30]).save(source / "good.png")
    (source / "empty.png").write_bytes(b"")
    jobs = {job.name: job for job in list_jobs([source], tmp_path / "out")}
    good = jobs["good.png"]
    assert good.header is not None
    assert (good.header.width, good.header.height, good.pixels, good.problem) == (30, 20, 600, "")
    assert good.destination == tmp_path / "out" / "good.png"
    assert "empty.png" in jobs["empty.png"].problem
    with pytest.raises(UserError, match="give one of keep, jpeg, png"):
        list_jobs([source], tmp_path / "out", "gif")
    (tmp_path / "nothing").mkdir()
    with pytest.raises(UserError, match="no images"):
        list_jobs([tmp_path / "nothing"], tmp_path / "out")


def test_several_inputs_share_an_output_and_folders_keep_their_names(tmp_path, photo):
    for name in ("scans/a.png", "scans/sub/b.jpg", "more/a.png", "single.png"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(photo[:9, :9]).save(tmp_path / name)
    names = ["single.png", "scans", "more"]
    jobs = list_jobs([tmp_path / name for name in names], tmp_path / "out")
    assert [job.name for job in jobs] == ["more/a.png", "scans/a.png", "scans/sub/b.jpg", "single.png"]
    assert [job.source for job in jobs] == [tmp_path / job.name for job in jobs]
    assert not any(job.problem for job in jobs)
    with pytest.raises(UserError, match=r"more/a\.png would both be named a\.png"):
        list_jobs([tmp_path / "scans" / "a.png", tmp_path / "more" / "a.png"], tmp_path / "out")


def test_truncated_files_have_a_problem(tmp_path, photo):
    Image.fromarray(photo[:40, :40]).save(tmp_path / "whole.jpg")
    whole = (tmp_path / "whole.jpg").read_bytes()
    (tmp_path / "cut.jpg").write_bytes(whole[:-20])
    jobs = {job.name: job for job in list_jobs([tmp_path], tmp_path.parent / "out")}
    assert jobs["cut.jpg"].problem == f"cannot read {tmp_path / 'cut.jpg'}: the file is truncated"
    assert not jobs["whole.jpg"].problem


def test_hard_links_to_inputs_are_not_overwritten(tmp_path, photo):
    source, output = tmp_path / "in", tmp_path / "out"
    source.mkdir()
    output.mkdir()
    for name in ("a.png", "b.png"):
        Image.fromarray(photo[:9, :9]).save(source / name)
    os.link(source / "b.png", output / "a.png")
    jobs = {job.name: job for job in list_jobs([source], output)}
    assert "would overwrite another source" in jobs["a.png"].problem
    assert not jobs["b.png"].problem


def test_outputs_that_would_land_among_the_inputs_are_not_written(tmp_path, photo):
    source = tmp_path / "pictures"
    (source / "pictures").mkdir(parents=True)
    Image.fromarray(photo[:9, :9]).save(source / "pictures" / "a.png")
    Image.fromarray(photo[:9, :9]).save(source / "b.png")
    jobs = {job.name: job for job in list_jobs([source], tmp_path)}
    assert "among the sources" in jobs["pictures/a.png"].problem
    assert not jobs["b.png"].problem


def test_small_images_of_the_same_size_share_a_batch_and_the_largest_come_first():
    jobs = [job("a", 10, 10), job("b", 20, 20), job("c", 10, 10), job("d", 10, 10), job("e", 10, 10, pages=2)]
    groups = in_groups(jobs, most_pixels=250)
    assert [[j.name for j in group] for group in groups] == [["b"], ["a", "c"], ["e"], ["d"]]
    assert [[j.name for j in group] for group in in_groups(jobs, 10)] == [["b"], ["e"], ["a"], ["c"], ["d"]]


def test_each_file_goes_to_one_process_and_loads_are_balanced():
    groups = in_groups([job(str(n), 10 + n, 10) for n in range(50)], 1)
    shares = [shard(groups, rank, 3) for rank in range(3)]
    names = [j.name for part in shares for group in part for j in group]
    assert sorted(names) == sorted(str(n) for n in range(50))
    loads = [sum(j.pixels for group in part for j in group) for part in shares]
    assert max(loads) < 1.05 * min(loads)
    assert shard(groups[:1], 1, 3) == []
