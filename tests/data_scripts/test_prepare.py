"""The scripts in data/: the starter set, and well-known sets, prepared from small stand-ins."""

import hashlib
import io
import re
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest
from PIL import Image

DATA = Path(__file__).resolve().parents[2] / "data"


def prepare(name: str, *args: str | Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, DATA / name / "prepare.py", *args]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def picture(kind: str, width: int, height: int) -> bytes:
    buffer = io.BytesIO()
    Image.linear_gradient("L").resize((width, height)).convert("RGB").save(buffer, kind)
    return buffer.getvalue()


def write_tar(path: Path, members: dict[str, bytes]) -> Path:
    with tarfile.open(path, "w:gz") as file:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            file.addfile(info, io.BytesIO(content))
    return path


def write_zip(path: Path, members: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w") as file:
        for name, content in members.items():
            file.writestr(name, content)
    return path


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def assert_refused(result: subprocess.CompletedProcess[str], out: Path, words: str) -> None:
    """Checks for one clear line, a failing exit status, and nothing left behind, not even beside `out`."""
    assert result.returncode != 0
    assert re.fullmatch(r"error: .*\n", result.stderr), result.stderr
    assert words in result.stderr
    assert not out.exists()
    assert out.parent.exists() is False or names(out.parent) == []


def bsds_members() -> dict[str, bytes]:
    landscape, portrait = picture("JPEG", 481, 321), picture("JPEG", 321, 481)
    folders = ["train"] * 200 + ["val"] * 100 + ["test"] * 200
    return {
        f"BSR/BSDS500/data/images/{folder}/{1000 + i * 7 % 500}.jpg": portrait if i % 3 else landscape
        for i, folder in enumerate(folders)
    } | {"BSR/BSDS500/data/images/train/Thumbs.db": b"not an image"}


@pytest.fixture
def bsds(tmp_path: Path) -> Path:
    return write_tar(tmp_path / "BSR_bsds500.tgz", bsds_members())


@pytest.mark.parametrize("how", ["url", "archive", "folder"])
def test_bsds500_layout(bsds: Path, tmp_path: Path, how: str) -> None:
    out = tmp_path / "new" / "bsds"
    source = {"url": ("--url", bsds.as_uri()), "archive": ("--archive", bsds)}.get(how)
    if source is None:
        with tarfile.open(bsds) as file:
            file.extractall(tmp_path / "unpacked", filter="data")
        source = ("--archive", tmp_path / "unpacked")
    result = prepare("bsds500", "--out", out, *source, "--sha256", sha256(bsds))
    assert result.returncode == 0, result.stderr
    assert names(out.parent) == ["bsds"]
    assert names(out) == ["test", "train", "val"]
    members = {Path(name) for name in bsds_members() if name.endswith(".jpg")}
    own_val = sorted(path.name for path in members if path.parent.name == "val")
    rest = sorted(path.name for path in members if path.parent.name != "val")
    assert names(out / "test") == own_val
    assert names(out / "val") == rest[19::20]
    assert sorted(names(out / "train") + names(out / "val")) == rest
    assert [len(names(out / split)) for split in ("train", "val", "test")] == [380, 20, 100]


def test_wrong_checksum_leaves_nothing(bsds: Path, tmp_path: Path) -> None:
    out = tmp_path / "new" / "bsds"
    result = prepare("bsds500", "--out", out, "--url", bsds.as_uri())  # not the archive the script knows
    assert_refused(result, out, f"sha256 is {sha256(bsds)}")


def test_unverified_prints_the_checksum(bsds: Path, tmp_path: Path) -> None:
    result = prepare("bsds500", "--out", tmp_path / "bsds", "--archive", bsds, "--unverified")
    assert result.returncode == 0, result.stderr
    assert f"{sha256(bsds)} (unverified)" in result.stdout


def test_a_missing_image_is_an_error(tmp_path: Path) -> None:
    members = bsds_members()
    members.pop(next(name for name in members if "/val/" in name))
    archive, out = write_tar(tmp_path / "a.tgz", members), tmp_path / "new" / "bsds"
    result = prepare("bsds500", "--out", out, "--archive", archive, "--unverified")
    assert_refused(result, out, "expected 100 images (*.jpg), found 99")


def test_a_wrong_size_is_an_error(tmp_path: Path) -> None:
    members = bsds_members()
    members[next(iter(members))] = picture("JPEG", 32, 32)
    archive, out = write_tar(tmp_path / "a.tgz", members), tmp_path / "new" / "bsds"
    result = prepare("bsds500", "--out", out, "--archive", archive, "--unverified")
    assert_refused(result, out, "is (32, 32)")


@pytest.mark.parametrize("write", [write_tar, write_zip])
@pytest.mark.parametrize("evil", ["../escaped.txt", "a/../../escaped.txt"])
def test_members_outside_are_refused(tmp_path: Path, write, evil: str) -> None:
    archive = write(tmp_path / "evil.archive", {evil: b"gotcha"})
    out = tmp_path / "new" / "bsds"
    result = prepare("bsds500", "--out", out, "--archive", archive, "--unverified")
    assert_refused(result, out, "outside")
    assert not list(tmp_path.rglob("escaped.txt"))


def test_full_folder_is_left_alone(bsds: Path, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "photo.jpg").write_bytes(b"dear")
    result = prepare("bsds500", "--out", tmp_path / "mine", "--archive", bsds, "--unverified")
    assert result.returncode != 0
    assert "not empty" in result.stderr
    assert names(tmp_path / "mine") == ["photo.jpg"]


def test_unreachable_address_is_one_line(tmp_path: Path) -> None:
    out = tmp_path / "new" / "bsds"
    result = prepare("bsds500", "--out", out, "--url", (tmp_path / "nothing.tgz").as_uri())
    assert_refused(result, out, "cannot download")


def test_div2k_layout(tmp_path: Path) -> None:
    image = picture("PNG", 2040, 8)
    train = write_zip(tmp_path / "t.zip", {f"DIV2K_train_HR/{i:04d}.png": image for i in range(1, 801)})
    valid = write_zip(tmp_path / "v.zip", {f"DIV2K_valid_HR/{i:04d}.png": image for i in range(801, 901)})
    out = tmp_path / "new" / "div2k"
    sums = ["--sha256", sha256(train), "--valid-sha256", sha256(valid)]
    result = prepare("div2k", "--out", out, "--url", train.as_uri(), "--valid-archive", valid, *sums)
    assert result.returncode == 0, result.stderr
    assert names(out.parent) == ["div2k"]
    assert names(out / "train") == [f"{i:04d}.png" for i in range(1, 801)]
    assert names(out / "val") == [f"{i:04d}.png" for i in range(801, 851)]
    assert names(out / "test") == [f"{i:04d}.png" for i in range(851, 901)]
    refused = tmp_path / "other" / "div2k"
    result = prepare("div2k", "--out", refused, "--archive", train, "--valid-archive", valid, *sums[:2])
    assert_refused(result, refused, "sha256")


@pytest.fixture
def kodak(tmp_path: Path) -> Path:
    folder = tmp_path / "kodak"
    folder.mkdir()
    for i in range(1, 25):
        portrait = i in {4, 9, 10, 17, 18, 19}
        size = (512, 768) if portrait else (768, 512)
        (folder / f"kodim{i:02d}.png").write_bytes(picture("PNG", *size))
    return folder


def test_kodak24_from_url(kodak: Path, tmp_path: Path) -> None:
    out = tmp_path / "new" / "kodak24"
    assert_refused(prepare("kodak24", "--out", out, "--url", kodak.as_uri()), out, "kodim01.png: sha256")
    result = prepare("kodak24", "--out", out, "--url", kodak.as_uri(), "--unverified")
    assert result.returncode == 0, result.stderr
    assert names(out) == ["test"]
    assert names(out / "test") == names(kodak)
    assert (out / "test" / "kodim24.png").read_bytes() == (kodak / "kodim24.png").read_bytes()


def test_kodak24_crops_from_archive(kodak: Path, tmp_path: Path) -> None:
    files = {f"PhotoCD/{path.name}": path.read_bytes() for path in kodak.iterdir()}
    archive, out = write_zip(tmp_path / "kodak.zip", files), tmp_path / "kodak24"
    result = prepare("kodak24", "--out", out, "--archive", archive, "--unverified", "--crops")
    assert result.returncode == 0, result.stderr
    for name, box in {"kodim01.png": (134, 6, 634, 506), "kodim04.png": (6, 134, 506, 634)}.items():
        with Image.open(out / "test" / name) as got, Image.open(kodak / name) as whole:
            assert got.tobytes() == whole.crop(box).tobytes()


def test_starter_set() -> None:
    starter = DATA / "starter"
    files = {path.relative_to(starter).as_posix(): path for path in starter.glob("*/*.png")}
    assert {name.split("/")[0] for name in files} == {"train", "val", "test"}
    credited = re.findall(r"`((?:train|val|test)/[^`]+)`", (starter / "CREDITS.md").read_text("utf-8"))
    assert sorted(credited) == sorted(files)
    assert sum(path.stat().st_size for path in files.values()) <= 10_000_000
    for path in files.values():
        with Image.open(path) as image:
            assert (image.format, image.mode, image.info) == ("PNG", "RGB", {}), path
            assert all(256 <= side <= 384 for side in image.size), path


def test_starter_photographs_stay_in_one_split() -> None:
    rows = [line for line in (DATA / "starter" / "CREDITS.md").read_text("utf-8").splitlines() if ".png`" in line]
    for row in rows:
        files = row.split("|")[1]
        assert len({split for split in ("train/", "val/", "test/") if split in files}) == 1, row
        assert re.search(r"\[(CC0|CC BY|CC BY-SA|public domain)[ \d.]*\]\(https://creativecommons", row), row
