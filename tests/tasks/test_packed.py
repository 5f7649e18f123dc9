"""One file that is a whole model; whatever is wrong with it is said in a line, and nothing in it runs."""

import json
import struct
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

import img2img
from img2img.tasks.checkpoint import CheckpointError
from img2img.tasks.packed import PACKED_KEY, read_packed, write_packed
from tests.commands.models import RECIPE, save_model


@pytest.fixture
def packed(tmp_path: Path) -> Path:
    checkpoint = save_model(tmp_path / "model.ckpt", change=0.05)
    return img2img.pack(checkpoint, tmp_path / "model.safetensors").model


def header_of(file: Path) -> tuple[dict, bytes]:
    content = file.read_bytes()
    length = struct.unpack("<Q", content[:8])[0]
    return json.loads(content[8 : 8 + length]), content[8 + length :]


def rewrite(file: Path, header: dict, data: bytes) -> None:
    text = json.dumps(header).encode()
    file.write_bytes(struct.pack("<Q", len(text)) + text + data)


def test_a_packed_model_gives_what_its_checkpoint_gives(packed, tmp_path):
    image = torch.rand(1, 3, 20, 30, generator=torch.Generator().manual_seed(0))
    original, again = img2img.load(tmp_path / "model.ckpt"), img2img.load(packed)
    assert again.recipe == original.recipe
    assert all(value.dtype == torch.float32 for value in again.state_dict().values())
    with torch.inference_mode():
        assert (original(image) - again(image)).abs().max() < 2e-3
        assert not torch.equal(original(image), image)
    assert packed.stat().st_size < 0.6 * (tmp_path / "model.ckpt").stat().st_size


def test_others_may_read_it_as_they_may_any_new_file(packed, tmp_path):
    (tmp_path / "other").touch()
    assert packed.stat().st_mode == (tmp_path / "other").stat().st_mode


def test_what_a_task_keeps_beside_its_weights_comes_back(tmp_path):
    about = {
        "recipe": RECIPE,
        "statistics": {"pca": {"mean": torch.arange(3.0)}, "thresholds": {"error": 0.5}, "n": [1, None]},
    }
    write_packed(tmp_path / "m.safetensors", {"w": torch.ones(2, 2)}, about, "float32")
    state, found = read_packed(tmp_path / "m.safetensors")
    assert found is not None
    assert torch.equal(found["statistics"].pop("pca")["mean"], torch.arange(3.0))
    assert found["statistics"] == {"thresholds": {"error": 0.5}, "n": [1, None]}
    assert list(state) == ["w"]


def test_weights_too_large_for_half_precision_are_refused(tmp_path):
    with pytest.raises(ValueError, match="too large for float16; choose another precision, such as bfloat16"):
        write_packed(tmp_path / "m.safetensors", {"w": torch.tensor([1e6])}, {}, "float16")
    assert not (tmp_path / "m.safetensors").exists()


def test_changed_bytes_are_noticed(packed):
    content = bytearray(packed.read_bytes())
    content[-5] ^= 1
    packed.write_bytes(content)
    with pytest.raises(CheckpointError, match="is damaged: its content is not what was written"):
        img2img.load(packed)


def test_a_changed_recipe_is_noticed(packed):
    header, data = header_of(packed)
    said = header["__metadata__"][PACKED_KEY]
    header["__metadata__"][PACKED_KEY] = said.replace('"blocks": 1', '"blocks": 2')
    rewrite(packed, header, data)
    with pytest.raises(CheckpointError, match="is damaged: its content is not what was written"):
        img2img.load(packed)


@pytest.mark.parametrize("cut", [4, 200, -9])
def test_truncated_files_are_noticed(packed, cut):
    packed.write_bytes(packed.read_bytes()[:cut])
    with pytest.raises(CheckpointError, match="is not a checkpoint, or is damaged"):
        img2img.load(packed)


def lie_of_offsets(header: dict) -> None:
    name = next(key for key in header if key != "__metadata__")
    header[name]["data_offsets"][1] += 8


def lie_of_shape(header: dict) -> None:
    name = next(key for key in header if key != "__metadata__")
    header[name]["shape"] = [2**40, 2**40]


def lie_of_type(header: dict) -> None:
    name = next(key for key in header if key != "__metadata__")
    header[name]["dtype"] = "Q77"


def lie_of_json(header: dict) -> None:
    header["__metadata__"][PACKED_KEY] = "[" * 100_000


def lie_of_kind(header: dict) -> None:
    header["__metadata__"][PACKED_KEY] = "[1, 2]"


@pytest.mark.parametrize("lie", [lie_of_offsets, lie_of_shape, lie_of_type, lie_of_json, lie_of_kind])
def test_a_lying_header_is_one_clear_line(packed, lie):
    header, data = header_of(packed)
    lie(header)
    rewrite(packed, header, data)
    with pytest.raises(CheckpointError, match=r"damaged") as caught:
        img2img.load(packed)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("path", ["os.system", "foreign.Network", "torch.hub.load", "img2img.tasks.recipe.build"])
def test_a_foreign_class_is_refused_before_anything_is_imported(tmp_path, path, monkeypatch):
    (tmp_path / "foreign.py").write_text("raise SystemExit('imported')")
    monkeypatch.syspath_prepend(tmp_path)
    recipe = {"class_path": "img2img.tasks.Restoration", "init_args": {"network": {"class_path": path}}}
    write_packed(tmp_path / "m.safetensors", {"w": torch.ones(1)}, {"recipe": recipe}, "float32")
    with pytest.raises(CheckpointError, match=r"asks for .*(trusted)"):
        img2img.load(tmp_path / "m.safetensors")


def test_other_safetensors_stay_what_they_are(tmp_path):
    save_file({"a": torch.ones(2)}, tmp_path / "other.safetensors", metadata={"format": "pt"})
    tensors, about = read_packed(tmp_path / "other.safetensors")
    assert about is None
    assert torch.equal(tensors["a"], torch.ones(2))
