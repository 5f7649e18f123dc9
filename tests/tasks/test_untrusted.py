"""Small files that would take gigabytes, or more recursion than there is, are refused before they do."""

from __future__ import annotations

import resource
import zipfile
from pathlib import Path

import pytest
import torch

from img2img import build, load
from img2img.tasks.checkpoint import CheckpointError, read_weights
from tests.tasks.forged import archive, call, dictionary, named, plain, tensor
from tests.tasks.test_recipe import RECIPE, checkpoint_with, network

ROOM = 300 << 20
"""Bytes that a refusal may take."""
HUGE = (10**5, 10**4)


@pytest.fixture(autouse=True)
def _little_memory():
    """What takes more memory than there is room for fails the test, instead of the machine."""
    build(RECIPE)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    yield
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < ROOM >> 10


def shared_lists(levels: int) -> list:
    value: list = [0]
    for _ in range(levels):
        value = [value, value]
    return value


def test_forged_archives_are_read_like_torchs_own():
    assert read_weights(archive(Path("m.ckpt"), dictionary(a=tensor((2, 2), (2, 1)))))["a"].shape == (2, 2)


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (dictionary(a=tensor(HUGE, (0, 0))), "repeats fewer values"),
        (dictionary(a=tensor((400,), (1,), claimed=400)), "damaged"),
        (dictionary(a=tensor((4,), (1,), offset=10**9)), "damaged"),
        (dictionary(a=call("builtins", "bytearray", plain(10**9))), "bytearray"),
        (dictionary(a=call("__builtin__", "bytearray", plain(10**9))), "bytearray"),
        (dictionary(a=call("torch", "FloatTensor", plain(10**9))), "far more memory than the file"),
        (
            dictionary(
                a=call(
                    *("torch._utils", "_rebuild_meta_tensor_no_storage"),
                    *(named("torch", "float32"), plain(HUGE), plain((1, 1)), b"\x89"),
                )
            ),
            "without content",
        ),
        (dictionary(a=plain(shared_lists(60))), "stand for more than"),
        (b"(l" * 300 + b"0", "damaged"),
    ],
    ids=["stride", "claim", "offset", "bytearray", "bytearray2", "empty", "meta", "shared", "cut"],
)
def test_data_that_stand_for_more_than_the_file_weighs(body, said):
    with pytest.raises(CheckpointError, match=said) as refused:
        load(archive(Path("m.ckpt"), body))
    assert "\n" not in str(refused.value)


def test_compressed_and_overlapping_archives():
    many = {"data/0": bytes(10**8)}
    file = archive(Path("m.ckpt"), dictionary(a=tensor((10**7,), (1,), 25 * 10**6)), zipfile.ZIP_DEFLATED, **many)
    assert file.stat().st_size < 200_000
    with pytest.raises(CheckpointError, match="compressed"):
        load(file)
    content = bytearray(
        archive(Path("m.ckpt"), plain({}), **{"data/0": bytes(5000), "data/1": bytes(5000)}).read_bytes()
    )
    with zipfile.ZipFile("m.ckpt") as file:
        first, second = (file.getinfo(f"archive/data/{n}").header_offset for n in (0, 1))
    place = content.rindex(second.to_bytes(4, "little"))
    content[place : place + 4] = first.to_bytes(4, "little")  # two names for one content
    Path("m.ckpt").write_bytes(content + b"\0")
    with pytest.raises(CheckpointError, match="damaged"):
        load("m.ckpt")


@pytest.mark.parametrize(
    "recipe",
    [
        {"class_path": "img2img.tasks.Restoration", "init_args": [1]},
        {
            "class_path": "img2img.tasks.Restoration",
            "init_args": {"network": {"class_path": "torch.nn.ReLU", "dict_kwargs": 1}},
        },
        {"class_path": "img2img.tasks.Restoration", "init_args": {1: 2}},
        {"class_path": "img2img.tasks.Restoration", "init_args": {"loss": shared_lists(60)}},
        {"class_path": "img2img.tasks.Restoration", "init_args": {"network": 3}},
        {"class_path": "img2img.tasks.Restoration", "init_args": {"network": None}},
        {"class_path": ["img2img.tasks.Restoration"]},
        {"class_path": "img2img.tasks."},
        {"class_path": "img2img.tasks.Restoration", "init_args": "lr"},
        {"init_args": {}},
        network("torch.nn.Linear", in_features=10**5, out_features=10**5),
        network("torch.nn.BatchNorm2d", num_features=10**9),
        network("img2img.networks.RestorationUNet", channels=[10**6, 10**6]),
        network("img2img.networks.RestorationUNet", channels=[8, 8], blocks=10**9),
        network(
            "torch.nn.TransformerEncoder",
            encoder_layer={"class_path": "torch.nn.TransformerEncoderLayer", "init_args": {"d_model": 4, "nhead": 1}},
            num_layers=10**9,
        ),
        RECIPE
        | {
            "init_args": RECIPE["init_args"]
            | {"loss": {"class_path": "torch.nn.Linear", "init_args": {"in_features": 10**5, "out_features": 10**5}}}
        },
    ],
)
def test_hostile_recipes_end_in_one_line(recipe):
    with pytest.raises(CheckpointError) as refused:
        load(checkpoint_with(recipe))
    assert len(str(refused.value)) < 1000


def test_a_recipe_100_000_levels_deep():
    deep = b"]" + b"]" * 100_000 + b"a" * 100_000
    body = dictionary(state_dict=plain({}), img2img=dictionary(format=plain(1), recipe=dictionary(init_args=deep)))
    with pytest.raises(CheckpointError, match="nested too deeply"):
        load(archive(Path("m.ckpt"), body))


@pytest.mark.parametrize("wrapped", [False, True])
def test_a_recipe_opens_no_other_file(wrapped):
    """Not even to say that it is not there."""
    inner = RECIPE | {"init_args": RECIPE["init_args"] | {"weights": "/etc/hostname"}}
    recipe = inner
    if wrapped:  # a task is a module too
        recipe = {"class_path": "img2img.tasks.Restoration", "init_args": {"network": inner}}
    torch.save({"state_dict": build(RECIPE).state_dict(), "img2img": {"format": 1, "recipe": recipe}}, "m.ckpt")
    if wrapped:
        with pytest.raises(CheckpointError, match="do not fit"):
            load("m.ckpt")
    else:
        assert "weights" not in str(load("m.ckpt").recipe)


@pytest.mark.parametrize("suffix", [".ckpt", ".safetensors"])
def test_truncated_files_end_in_one_line(suffix):
    if suffix == ".ckpt":
        whole = checkpoint_with(RECIPE).read_bytes()
    else:
        from img2img.tasks.packed import write_packed

        write_packed(Path("m.safetensors"), build(RECIPE).state_dict(), {"version": "0", "recipe": RECIPE}, "float16")
        whole = Path("m.safetensors").read_bytes()
    cut = Path("cut" + suffix)
    for size in {0, 1, 4, 8, 9, 21, 22, 30, len(whole) - 1, *range(100, len(whole), len(whole) // 25)}:
        cut.write_bytes(whole[:size])
        with pytest.raises(CheckpointError) as refused:
            load(cut)
        assert "\n" not in str(refused.value)
