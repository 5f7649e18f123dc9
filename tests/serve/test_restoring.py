"""What comes back: the pixels of `restore`, of any strength, in the file's own format and depth, with its metadata."""

import io
import zipfile

import numpy as np
import pytest
from PIL import Image

import img2img
from img2img.imaging.reading import open_rows, read_header
from img2img.inference.strength import blend
from tests.imaging.samples import noise, smooth
from tests.serve.serving import as_file, pixels_of, serving, until


def sixteen_bits(folder):
    """A PNG of 16 bits with opacity, written by this program."""
    from dataclasses import replace

    from img2img.imaging.writing import create_rows

    (folder / "small.png").write_bytes(as_file(smooth()))
    header = replace(read_header(folder / "small.png"), dtype=np.dtype(np.uint16), alpha=True)
    with create_rows(folder / "deep.png", header) as writer:
        writer.write(noise(48, 64, 3, np.uint16), noise(48, 64, 1, np.uint16))
    return (folder / "deep.png").read_bytes()


def rows_of(path):
    with open_rows(path) as reader:
        return reader.read(reader.header.height * reader.header.pages)


def restored_by_command(shelf, folder, data, name, model="plain"):
    (folder / "in").mkdir(exist_ok=True)
    (folder / "in" / name).write_bytes(data)
    img2img.restore(folder / "in" / name, folder / name, shelf[model].task, accelerator="cpu", precision="32-true")
    return folder / name


@pytest.mark.parametrize("name", ["a.png", "a.jpg", "a.webp", "a.tif", "a.bmp"])
def test_a_program_gets_what_the_command_restores(client, shelf, tmp_path, name):
    exif = Image.Exif()
    exif[0x010F] = "Maker"
    kind = {"jpg": "JPEG", "tif": "TIFF"}.get(name[2:], name[2:].upper())
    data = as_file(smooth(), kind, **({} if kind == "BMP" else {"exif": exif}))
    answer = client.restore(data, name)
    assert answer.status == 200
    assert answer.headers["content-disposition"] == f"attachment; filename*=utf-8''{name}"
    expected = restored_by_command(shelf, tmp_path, data, name).read_bytes()
    assert answer.body == expected, "the same file, to the byte"
    assert (pixels_of(answer.body) != pixels_of(data)).any()
    if kind != "BMP":
        assert Image.open(io.BytesIO(answer.body)).getexif()[0x010F] == "Maker"
    until(lambda: not list(client.server.pictures))


def test_sixteen_bits_and_opacity_are_kept(client, shelf, tmp_path):
    data = sixteen_bits(tmp_path)
    expected = rows_of(restored_by_command(shelf, tmp_path, data, "deep16.png"))
    (tmp_path / "got.png").write_bytes(client.restore(data, "deep16.png").body)
    got = rows_of(tmp_path / "got.png")
    assert got[0].dtype == np.uint16
    for one, other in zip(got, expected, strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("deep", [False, True])
def test_strength_goes_from_the_input_beyond_the_result(client, shelf, tmp_path, deep):
    data = sixteen_bits(tmp_path) if deep else as_file(smooth())
    (tmp_path / "original.png").write_bytes(data)
    original = rows_of(tmp_path / "original.png")
    restored = rows_of(restored_by_command(shelf, tmp_path, data, "full.png"))
    for strength in (0, 0.5, 1.5):
        (tmp_path / "got.png").write_bytes(client.restore(data, "x.png", strength=strength).body)
        got = rows_of(tmp_path / "got.png")
        np.testing.assert_array_equal(got[0], blend(original[0], restored[0], strength))
        if strength == 0:
            np.testing.assert_array_equal(got[0], original[0])
        if strength == 0.5:
            mean = (original[0].astype(float) + restored[0]) / 2
            assert np.abs(got[0] - mean).max() <= 1
        if deep:
            np.testing.assert_array_equal(got[1], original[1])


@pytest.mark.parametrize("strength", ["-0.1", "1.6", "nan", "much", "inf"])
def test_a_strength_out_of_range_is_refused(client, strength):
    answer = client.restore(as_file(smooth()), strength=strength)
    assert answer.status == 400
    assert len(answer.json["error"].splitlines()) == 1


def test_what_enlarges_is_blended_with_the_enlarged_input(client):
    from img2img.inference.strength import enlarged

    original = smooth(300, 64)  # several strips
    full = pixels_of(client.restore(as_file(original), model="double").body)
    assert full.shape == (600, 128, 3)
    got = pixels_of(client.restore(as_file(original), model="double", strength=0.25).body)
    expected = blend(enlarged(original, 2), full, 0.25)
    assert np.abs(got.astype(int) - expected).max() <= 1


def test_pages_and_floats_of_a_tiff(client, shelf, tmp_path):
    pages = [Image.fromarray(smooth(150, 64) // n) for n in (1, 2, 3)]
    file = io.BytesIO()
    pages[0].save(file, "TIFF", save_all=True, append_images=pages[1:])
    expected = restored_by_command(shelf, tmp_path, file.getvalue(), "pages.tif").read_bytes()
    assert client.restore(file.getvalue(), "pages.tif").body == expected
    half = Image.open(io.BytesIO(client.restore(file.getvalue(), "pages.tif", strength=0.5).body))
    assert half.n_frames == 3
    full = as_file(np.linspace(0, 1, 64 * 48, dtype=np.float32).reshape(48, 64), "TIFF")
    got = pixels_of(client.restore(full, "float.tif", strength=0).body)
    np.testing.assert_array_equal(got, pixels_of(full))


def test_a_hole_that_is_transparent_is_filled(client):
    pixels = np.dstack([smooth(), np.full((48, 64), 255, np.uint8)])
    pixels[10:20, 10:30, 3] = 0
    answer = client.restore(as_file(pixels), model="fill", mask="alpha")
    assert answer.status == 200
    got = pixels_of(answer.body)
    known = pixels[..., 3] == 255
    np.testing.assert_array_equal(got[known][:, :3], pixels[known][:, :3])
    assert (got[~known][:, :3] != pixels[~known][:, :3]).any()


def test_a_model_that_fills_wants_a_mask(client):
    answer = client.restore(as_file(smooth()), model="fill")
    assert answer.status == 422
    assert "paint" in answer.json["error"]


def test_a_painted_mask_is_enlarged_to_the_picture(client):
    pixels = smooth(60, 1800)  # larger than its preview
    about = client.add(as_file(pixels))
    preview = Image.open(io.BytesIO(client.ask("GET", f"pictures/{about['id']}/before").body))
    assert preview.size == (1600, 53)
    mask = np.zeros((53, 1600, 3), np.uint8)
    mask[20:30, 800:1200] = (255, 0, 255)
    answer = client.ask("PUT", f"pictures/{about['id']}/mask", as_file(mask))
    assert answer.json["masked"]
    assert client.finish(about["id"], model="fill")["state"] == "restored"
    got = pixels_of(client.ask("GET", f"pictures/{about['id']}/download").body)
    hole = np.zeros(pixels.shape[:2], bool)
    hole[23:34, 900:1350] = True
    np.testing.assert_array_equal(got[~hole], pixels[~hole])
    assert (got[hole] != pixels[hole]).mean() > 0.5


@pytest.mark.parametrize(
    ("mask", "reason"),
    [(np.zeros((48, 64), np.uint8), "nothing is painted"), (np.full((64, 48), 255, np.uint8), "another shape"),
     (np.full((1, 3000), 255, np.uint8), "1600 pixels")],
)  # fmt: skip
def test_masks_that_cannot_be_right_are_refused(client, mask, reason):
    about = client.add(as_file(smooth()))
    answer = client.ask("PUT", f"pictures/{about['id']}/mask", as_file(mask))
    assert answer.status == 422
    assert reason in answer.json["error"]
    assert client.ask("PUT", f"pictures/{about['id']}/mask", b"no picture").status == 422


def test_uncertainty_is_shown_and_downloaded(client):
    about = client.add(as_file(smooth()), "day/a.jpg.png")
    done = client.finish(about["id"], model="unsure", uncertainty=1)
    assert done["uncertainty"]
    place = f"pictures/{about['id']}"
    assert client.ask("GET", f"{place}/uncertainty").body[:2] == b"\xff\xd8"
    answer = client.ask("GET", f"{place}/download", uncertainty=1)
    assert answer.headers["content-disposition"].endswith("a.jpg.uncertainty.png")
    assert pixels_of(answer.body).dtype == np.uint16
    again = client.finish(about["id"], model="plain", uncertainty=1)
    assert not again["uncertainty"], "this model does not estimate"
    assert client.ask("GET", f"{place}/uncertainty").status == 404


def test_restoring_again_replaces_the_result(client):
    about = client.add(as_file(smooth()))
    first = client.finish(about["id"], model="plain")
    second = client.finish(about["id"], model="unsure")
    assert first["version"] != second["version"]
    results = [path.name for path in (client.server.pictures.folder / about["id"]).glob("*/image/*.tif")]
    assert results == ["restored.tif"]
    assert client.ask("GET", f"pictures/{about['id']}/after").body[:2] == b"\xff\xd8"


def test_all_come_as_a_zip_with_their_folders_and_names(client):
    names = ["a.png", "day 1/a.png", "day 1/Ä.jpg", "a.png", "A.png"]
    for name in names:
        picture = client.add(as_file(smooth(), "JPEG" if name.endswith("jpg") else "PNG"), name)
        client.finish(picture["id"])
    answer = client.ask("GET", "pictures.zip", strength=0)
    archive = zipfile.ZipFile(io.BytesIO(answer.body))
    assert archive.testzip() is None
    assert sorted(archive.namelist()) == ["A (3).png", "a (2).png", "a.png", "day 1/a.png", "day 1/Ä.jpg"]
    np.testing.assert_array_equal(pixels_of(archive.read("a.png")), smooth())
    until(lambda: not list(client.server.pictures.folder.rglob("download-*")))


def test_a_damaged_picture_fails_alone_and_names_no_path(client):
    data = as_file(noise(64, 64, 3))
    bad, good = client.add(data[: len(data) // 2], "cut.png"), client.add(data, "good.png")
    failed = client.finish(bad["id"])
    assert failed["state"] == "failed"
    assert failed["reason"].startswith("cannot read cut.png: ")
    assert str(client.server.pictures.folder) not in failed["reason"]
    assert client.finish(good["id"])["state"] == "restored"
    shown = client.ask("GET", f"pictures/{bad['id']}/before")
    assert (shown.status, shown.json["error"][:21]) == (422, "cannot read cut.png: ")
    answer = client.restore(data[: len(data) // 2], "cut.png")
    assert answer.status == 422
    assert "cut.png" in answer.json["error"]
    assert client.ask("GET", f"pictures/{bad['id']}/download").status == 404


def test_a_picture_can_be_removed_while_it_waits_or_runs(shelf):
    with serving(shelf, memory="1300MB") as client:
        ids = [client.add(as_file(smooth(1500, 2000)), f"{n}.png")["id"] for n in range(3)]
        for id in ids:
            assert client.ask("POST", f"pictures/{id}/restore", self_ensemble=1).status == 202
        client.wait(ids[0], "running")
        assert client.ask("POST", f"pictures/{ids[0]}/restore").status == 409
        for id in ids[:2]:
            assert client.ask("DELETE", f"pictures/{id}").status == 204
        assert [each["id"] for each in client.ask("GET", "state").json["pictures"]] == ids[2:]
        client.wait(ids[2], "running")
        assert sorted(path.name for path in client.server.pictures.folder.iterdir()) == sorted([ids[2], "lock"])


def test_formats_that_are_only_read_come_back_as_the_closest(client):
    pytest.importorskip("pillow_heif")
    import pillow_heif

    file = io.BytesIO()
    pillow_heif.from_pillow(Image.fromarray(smooth())).save(file)
    answer = client.restore(file.getvalue(), "a.heic")
    assert answer.headers["content-disposition"].endswith("a.avif")
    assert Image.open(io.BytesIO(answer.body)).size == (64, 48)
