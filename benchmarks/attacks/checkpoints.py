"""Attacks by checkpoints, recipes and safetensors files."""

from __future__ import annotations

import json
import os
import pickle
import zipfile
from pathlib import Path

import torch

from benchmarks.attacks.kit import (
    ATTACKS,
    CONFIG,
    FIT,
    RECIPE,
    RESTORE,
    Evil,
    attack,
    config,
    forged,
    save,
    shared,
    with_network,
)
from tests.tasks.forged import call, dictionary, named, plain, tensor


def register() -> None:
    """Registers the attacks by checkpoints."""
    rebuild = "torch._utils"
    huge = (10**5, 10**4)
    for name, body in {
        "stride 0": dictionary(a=tensor(huge, (0, 0))),
        "claims more than it holds": dictionary(a=tensor((400,), (1,), claimed=400)),
        "offset out of bounds": dictionary(a=tensor((4,), (1,), offset=10**9)),
        "negative offset": dictionary(a=tensor((4,), (1,), offset=-4)),
        "bytearray of 2 GB": dictionary(a=call("builtins", "bytearray", plain(2 * 10**9))),
        "tensor without content": dictionary(a=call("torch", "FloatTensor", plain(10**10))),
        "meta tensor": dictionary(
            a=call(
                rebuild,
                "_rebuild_meta_tensor_no_storage",
                named("torch", "float32"),
                plain(huge),
                plain((1, 1)),
                b"\x89",
            )
        ),
        "lists shared 2^60 times": dictionary(state_dict=plain({}), img2img=plain({"format": 1, "recipe": shared()})),
        "100,000 levels": dictionary(img2img=dictionary(format=plain(1), recipe=b"]" * 100_000 + b"a" * 99_999)),
        "GLOBAL of os.system": dictionary(a=call("os", "system", text_of("touch RAN"))),
        "GLOBAL of builtins.exec": dictionary(a=call("builtins", "exec", text_of("open('RAN','w')"))),
        "getattr chain": dictionary(a=call("builtins", "getattr", named("torch", "hub"), text_of("load"))),
        "codec": dictionary(a=call("_codecs", "encode", text_of("x" * 1000), text_of("zip"))),
    }.items():
        ATTACKS[f"checkpoint: {name}"] = lambda body=body: forged(body)
    for name, recipe in {
        "os.system": with_network("os.system", command="touch RAN"),
        "torch.hub.load": with_network("torch.hub.load", repo_or_dir="x/y"),
        "a class beside it": with_network("evil.Net"),
        "a function of torchvision that downloads": with_network("torchvision.models.resnet18", weights="DEFAULT"),
        "img2img.__main__": with_network("img2img.__main__.main"),
        "init_args are a list": {"class_path": "img2img.tasks.Restoration", "init_args": [1]},
        "the network is a number": {"class_path": "img2img.tasks.Restoration", "init_args": {"network": 3}},
        "a billion layers": with_network(
            "torch.nn.TransformerEncoder",
            encoder_layer={"class_path": "torch.nn.TransformerEncoderLayer", "init_args": {"d_model": 4, "nhead": 1}},
            num_layers=10**9,
        ),
        "a billion blocks": with_network("img2img.networks.RestorationUNet", channels=[8, 8], blocks=10**9),
        "a loss of 40 GB": RECIPE
        | {
            "init_args": RECIPE["init_args"]
            | {"loss": {"class_path": "torch.nn.Linear", "init_args": {"in_features": 10**5, "out_features": 10**5}}}
        },
        "weights that are a pipe": RECIPE | {"init_args": RECIPE["init_args"] | {"weights": "pipe"}},
        "weights within": with_network("img2img.tasks.Restoration", **RECIPE["init_args"], weights="pipe"),
        "an image of 100,000 x 100,000": with_network("torch.nn.Upsample", size=[100_000, 100_000]),
    }.items():
        ATTACKS[f"recipe: {name}"] = lambda recipe=recipe: save(recipe)


def text_of(value: str) -> bytes:
    """Returns the pickle of a text."""
    return pickle.dumps(value, 2)[2:-1]


@attack("checkpoint: pickled call, zip")
def _() -> list[str]:
    torch.save({"state_dict": Evil()}, "m.ckpt")
    return RESTORE


@attack("checkpoint: pickled call, old format")
def _() -> list[str]:
    torch.save({"state_dict": Evil()}, "m.ckpt", _use_new_zipfile_serialization=False)
    return RESTORE


@attack("checkpoint: plain pickle")
def _() -> list[str]:
    Path("m.ckpt").write_bytes(pickle.dumps(Evil()))
    return RESTORE


@attack("checkpoint: deflated archive, 1 GB")
def _() -> list[str]:
    return forged(dictionary(a=tensor((4,), (1,), 25 * 10**7)), zipfile.ZIP_DEFLATED, **{"data/0": bytes(10**9)})


@attack("checkpoint: bytearray, old format")
def _() -> list[str]:
    torch.save({"a": 1}, "m.ckpt", _use_new_zipfile_serialization=False)
    content = Path("m.ckpt").read_bytes()
    body = dictionary(a=call("builtins", "bytearray", plain(2 * 10**9)))
    start = content.index(b"\x80\x02", content.index(b"type_sizes"))
    Path("m.ckpt").write_bytes(content[:start] + b"\x80\x02" + body + b".\x80\x02].")
    return RESTORE


@attack("checkpoint: names that leave the folder")
def _() -> list[str]:
    return forged(dictionary(a=tensor((2, 2), (2, 1))), **{"../../victim/photo.png": b"x", "/tmp/evil": b"x"})


@attack("checkpoint: state shared 2^60 times, resumed")
def _() -> list[str]:
    Path("c.yaml").write_text(CONFIG)
    save(RECIPE, optimizer_states=shared(), lr_schedulers=[], loops={}, callbacks={}, epoch=0, global_step=1)
    return [*FIT, "--ckpt_path=m.ckpt"]


@attack("checkpoint: callback state that names the victim, resumed")
def _() -> list[str]:
    Path("c.yaml").write_text(CONFIG)
    states = {"best_model_path": os.path.abspath("victim/photo.png"), "dirpath": os.path.abspath("victim")}
    key = "LastCheckpoint{'monitor': None, 'mode': 'min', 'every_n_train_steps': 100, 'every_n_epochs': 0, "
    key += "'train_time_interval': None}"
    save(
        RECIPE,
        callbacks={key: states},
        optimizer_states=[],
        lr_schedulers=[],
        loops={},
        **{"pytorch-lightning_version": "2.6.4", "global_step": 1, "epoch": 0},
    )
    return [*FIT, "--ckpt_path=m.ckpt"]


@attack("checkpoint: sizes to fine-tune from name a class")
def _() -> list[str]:
    inner = {
        "class_path": "RestorationUNet",
        "init_args": {"channels": {"class_path": "subprocess.Popen", "init_args": {"args": ["touch", "RAN"]}}},
    }
    save(
        {
            "class_path": "img2img.tasks.Restoration",
            "init_args": {"network": inner | {"class_path": "img2img.networks.RestorationUNet"}},
        }
    )
    return config(CONFIG, "--model.weights=m.ckpt")


@attack("checkpoint: key with number 999,999,999 of a published network")
def _() -> list[str]:
    torch.save(
        {
            "params": {
                "conv_first.weight": torch.zeros(64, 3, 3, 3),
                "body.999999999.rdb1.conv1.weight": torch.zeros(32, 64, 3, 3),
            }
        },
        "m.ckpt",
    )
    return RESTORE


@attack("checkpoint: a FIFO")
def _() -> list[str]:
    os.mkfifo("m.ckpt")
    return RESTORE


@attack("safetensors: header of 90 MB")
def _() -> list[str]:
    header = b'{"__metadata__":{"img2img":"' + b"[" * 90_000_000 + b'"}}'
    Path("m.ckpt").write_bytes(len(header).to_bytes(8, "little") + header)
    return RESTORE


@attack("safetensors: offsets beyond the end")
def _() -> list[str]:
    header = json.dumps({"a": {"dtype": "F32", "shape": [10**9], "data_offsets": [0, 4 * 10**9]}}).encode()
    Path("m.ckpt").write_bytes(len(header).to_bytes(8, "little") + header)
    return RESTORE


@attack("safetensors: model data that are no dictionary")
def _() -> list[str]:
    header = json.dumps({"__metadata__": {"img2img": json.dumps([[[]]])}}).encode()
    Path("m.ckpt").write_bytes(len(header).to_bytes(8, "little") + header)
    return RESTORE
