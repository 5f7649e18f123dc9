"""What each format keeps, what it loses, and that both are said truly."""

import io
from dataclasses import replace

import cv2
import numpy as np
import pytest
import pyvips
from PIL import Image as Pillow

from img2img.imaging import tiff_exif
from img2img.imaging.files import Image, UnreadableImage, read_image, write_image
from img2img.imaging.formats import WRITABLE, Header, loss, sniff
from img2img.imaging.reading import read_header
from tests.imaging.samples import SRGB, XMP, error, noise, smooth


def exif_of_a_camera():
    exif = Pillow.Exif()
    exif[0x010F], exif[0x013B] = "Maker", "Somebody"
    exif.get_ifd(0x8769)[0x829A] = (1, 250)
    exif.get_ifd(0x8825)[1] = "N"
    return exif


def everything(dtype=np.uint8, alpha=True, pages=1):
    blobs = {"exif-data": exif_of_a_camera().tobytes(), "icc-profile-data": SRGB, "xmp-data": XMP, "iptc-data": b"\x1c"}
    return Header(64, 48, 3, alpha, np.dtype(dtype), pages, "tiff", blobs | {"xres": 10.0, "yres": 10.0})


@pytest.mark.parametrize("suffix", sorted(WRITABLE))
def test_loss_says_what_a_round_trip_loses(tmp_path, suffix):
    header = everything(np.uint16)
    alpha = np.ascontiguousarray(smooth()[..., :1])
    deep = smooth().astype(np.uint16) * 257
    write_image(tmp_path / f"a{suffix}", Image(deep, alpha.astype(np.uint16) * 257, header.metadata))
    back = read_header(tmp_path / f"a{suffix}")
    said = loss(header, suffix)
    assert ("alpha is dropped" in said) == (not back.alpha)
    assert any(phrase.startswith("16 bits become") for phrase in said) == (
        back.dtype == np.uint8 or "bits-per-sample" in back.metadata
    )
    for word, key in (("EXIF", "exif-data"), ("XMP", "xmp-data"), ("the colour profile", "icc-profile-data")):
        assert (f"{word} is dropped" in said) == (key not in back.metadata)
    kept = back.metadata.get("xres") == pytest.approx(10, abs=0.1)
    assert ("the resolution is dropped" in said) == (not kept)


def test_loss_in_words():
    header = everything(np.uint16, pages=3)
    assert loss(header, ".tif") == []
    assert loss(header, ".PNG") == ["pages after the first", "IPTC is dropped"]
    assert loss(replace(header, metadata={}), ".jpg") == [
        "16 bits become 8",
        "alpha is dropped",
        "pages after the first",
    ]
    assert loss(replace(header, metadata={"bits-per-sample": 10}, pages=1), ".avif") == []
    assert loss(replace(header, metadata={}, pages=1), ".avif") == ["16 bits become 12"]
    assert loss(replace(header, dtype=np.dtype(np.float32), metadata={}, pages=1), ".png") == ["floats are refused"]
    with pytest.raises(ValueError, match="HEIC can be read but not written"):
        loss(header, ".heic")


@pytest.mark.parametrize("bits", [10, 12])
@pytest.mark.parametrize("alpha", [False, True])
def test_avif_keeps_more_than_8_bits(tmp_path, bits, alpha):
    deep = smooth().astype(np.uint16) * 257
    deep[:16, :16] = 65535
    opacity = np.full((48, 64, 1), 65535, np.uint16) if alpha else None
    write_image(tmp_path / "a.avif", Image(deep, opacity, {"bits-per-sample": bits}), quality=100)
    first = read_image(tmp_path / "a.avif")
    assert first.metadata["bits-per-sample"] == bits
    assert first.pixels[4, 4].tolist() == [65535] * 3  # white stays white
    assert error(first.pixels, deep) < 130  # half of an 8-bit level
    assert len(np.unique(first.pixels)) > 256
    write_image(tmp_path / "b.avif", first, quality=100)
    second = read_image(tmp_path / "b.avif")
    assert second.metadata["bits-per-sample"] == bits
    assert error(second.pixels, first.pixels) < 65536 / 2**bits  # a level of its own
    assert (second.alpha is None) == (not alpha)


# --- EXIF in TIFF ----------------------------------------------------------------------------------


@pytest.mark.parametrize("big", [False, True])
@pytest.mark.parametrize("pages", [1, 3])
def test_exif_is_added_to_any_tiff(tmp_path, big, pages):
    path = tmp_path / "a.tif"
    tall = np.concatenate([smooth(16, 20) + np.uint8(page) for page in range(pages)])
    image = pyvips.Image.new_from_array(tall, interpretation="srgb")
    image.tiffsave(str(path), bigtiff=big, page_height=16)
    tiff_exif.append_exif(path, exif_of_a_camera().tobytes())
    with Pillow.open(path) as file:
        exif = file.getexif()
        assert (exif[0x010F], exif[0x013B]) == ("Maker", "Somebody")
        assert exif.get_ifd(0x8769)[0x829A] == (1, 250)
        assert exif.get_ifd(0x8825)[1] == "N"
        assert file.n_frames == pages
    np.testing.assert_array_equal(pyvips.Image.tiffload(str(path), n=-1).numpy(), tall)
    with open(path, "rb") as stream:
        again = Pillow.Exif()
        again.load(tiff_exif.read_exif(stream))
    assert again[0x010F] == "Maker"
    assert again.get_ifd(0x8769)[0x829A] == (1, 250)


def test_tiff_without_camera_has_no_exif(tmp_path):
    Pillow.fromarray(smooth()).save(tmp_path / "a.tif")
    assert "exif-data" not in read_image(tmp_path / "a.tif").metadata


@pytest.mark.filterwarnings("ignore:Corrupt EXIF")  # Pillow's word, which is what the test provokes
def test_exif_that_nobody_can_read_costs_no_picture(tmp_path):
    for exif in (b"Exif\0\0nonsense", b"Exif\0\0II*\0\x08\0\0\0\xff\xff\x0f\x01", b""):
        write_image(tmp_path / "a.tif", Image(smooth(), None, {"exif-data": exif}))
        np.testing.assert_array_equal(read_image(tmp_path / "a.tif").pixels, smooth())
    endless = b"II+\0\x08\0\0\0" + (16).to_bytes(8, "little") + (2**60).to_bytes(8, "little")
    assert tiff_exif.read_exif(io.BytesIO(endless)) is None


def test_exif_goes_from_tiff_to_jpeg(tmp_path):
    Pillow.fromarray(smooth()).save(tmp_path / "in.tif")
    tiff_exif.append_exif(tmp_path / "in.tif", exif_of_a_camera().tobytes())
    write_image(tmp_path / "out.jpg", read_image(tmp_path / "in.tif"))
    with Pillow.open(tmp_path / "out.jpg") as file:
        assert file.getexif()[0x010F] == "Maker"
        assert file.getexif().get_ifd(0x8825)[1] == "N"


# --- PPM, PGM, PBM ---------------------------------------------------------------------------------


@pytest.mark.parametrize(("suffix", "channels"), [(".pgm", 1), (".ppm", 3), (".pnm", 3)])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_ppm_agrees_with_opencv(tmp_path, suffix, channels, dtype):
    pixels = noise(7, 5, channels, dtype)
    assert cv2.imwrite(str(tmp_path / f"in{suffix}"), pixels[..., ::-1])
    image = read_image(tmp_path / f"in{suffix}")
    np.testing.assert_array_equal(image.pixels, pixels)
    write_image(tmp_path / f"out{suffix}", image)
    seen = cv2.imread(str(tmp_path / f"out{suffix}"), cv2.IMREAD_UNCHANGED).reshape(pixels.shape)
    np.testing.assert_array_equal(seen[..., ::-1], pixels)


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"P2\n# a comment\n3 1 # more\n255\n0 7 255\n", [[0, 7, 255]]),
        (b"P2 2 1 15\n0 15\n", [[0, 255]]),
        (b"P5 3 1 1023\n" + np.array([0, 512, 1023], ">u2").tobytes(), [[0, 32800, 65535]]),
        (b"P1\n3 2\n101\n0 1 0", [[0, 255, 0], [255, 0, 255]]),
        (b"P4 10 1\n" + bytes([0b10000000, 0b01000000]), [[0, *[255] * 8, 0]]),
    ],
)
def test_rarer_members_of_the_family(tmp_path, data, expected):
    (tmp_path / "a.pnm").write_bytes(data)
    np.testing.assert_array_equal(read_image(tmp_path / "a.pnm").pixels[..., 0], expected)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"P6 2 2 255\n" + bytes(11), "truncated"),
        (b"P3 2 2 255\n1 2 3 4", "truncated"),
        (b"P5 2 1 15\n" + bytes([3, 16]), "exceeds the maximum of 15"),
        (b"P6 0 2 255\n", "not a PPM image"),
        (b"P6 60000 60000 255\n", "limit"),
        (b"P6 two 2 255\n", "no valid PPM header"),
    ],
)
def test_damaged_ppm(tmp_path, data, message):
    (tmp_path / "a.ppm").write_bytes(data)
    with pytest.raises(UnreadableImage, match=message):
        read_image(tmp_path / "a.ppm")


# --- HEIC ------------------------------------------------------------------------------------------


def test_brands_tell_avif_from_heic():
    assert sniff(b"\0\0\0\x1cftypavif\0\0\0\0mif1avifmiaf").name == "avif"
    assert sniff(b"\0\0\0\x1cftypmif1\0\0\0\0mif1avifmiaf").name == "avif"
    assert sniff(b"\0\0\0\x18ftypmif1\0\0\0\0mif1heic").name == "heic"
    assert sniff(b"\0\0\0\x18ftypheic\0\0\0\0mif1heic").name == "heic"


def test_without_its_decoder_heic_is_one_clear_line(tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "pillow_heif", None)
    (tmp_path / "a.heic").write_bytes(b"\0\0\0\x18ftypheic\0\0\0\0mif1heic")
    said = r"a\.heic: HEIC needs a decoder: pip install '\.\[heic\]' in a clone of img2img$"
    with pytest.raises(UnreadableImage, match=said):
        read_image(tmp_path / "a.heic")


@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA", "RGB;16"])
def test_heic_is_read(tmp_path, mode):
    pillow_heif = pytest.importorskip("pillow_heif")
    deep, channels = mode.endswith("16"), len(mode.partition(";")[0])
    pixels = smooth(channels=min(channels, 3))
    if channels == 4:
        pixels = np.concatenate([pixels, pixels[..., :1]], axis=2)
    pixels = pixels.astype(np.uint16) * 257 if deep else pixels
    exif = exif_of_a_camera()
    data = {"mode": mode, "size": (64, 48), "data": pixels.tobytes()}
    pillow_heif.encode(**data, fp=tmp_path / "a.heic", quality=-1, exif=exif.tobytes())
    image = read_image(tmp_path / "a.heic")
    assert image.pixels.dtype == pixels.dtype
    stored = image.pixels if image.alpha is None else np.concatenate([image.pixels, image.alpha], axis=2)
    assert error(stored, pixels) < (257 if deep else 1.5)
    assert image.metadata.get("bits-per-sample") == (10 if deep else None)
    write_image(tmp_path / "out.jpg", image)
    with Pillow.open(tmp_path / "out.jpg") as file:
        assert file.getexif()[0x010F] == "Maker"


def test_heic_that_was_turned_and_truncated(tmp_path):
    pillow_heif = pytest.importorskip("pillow_heif")
    exif = Pillow.Exif()
    exif[0x0112] = 6
    heif = pillow_heif.from_pillow(Pillow.fromarray(smooth()))
    heif.info["exif"] = exif.tobytes()
    heif.save(tmp_path / "a.heic", quality=95)
    assert read_image(tmp_path / "a.heic").pixels.shape == (64, 48, 3)
    assert (read_header(tmp_path / "a.heic").height, read_header(tmp_path / "a.heic").width) == (64, 48)
    data = (tmp_path / "a.heic").read_bytes()
    for part in (0.1, 0.5, 0.9):
        (tmp_path / "a.heic").write_bytes(data[: int(len(data) * part)])
        with pytest.raises(UnreadableImage):
            read_image(tmp_path / "a.heic")
