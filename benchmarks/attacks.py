"""Attacks the program with hostile files, and prints a line for each: `python -m benchmarks.attacks [word …]`.

Each attack runs in a process of its own, in an empty folder, and may take a minute and 1.5 GB. It has failed where
nothing ran, nothing outside of the outputs changed, no connection was tried, and the program ended by itself without a
traceback. Words choose the attacks whose names hold one of them.
"""

from __future__ import annotations

import io
import json
import os
import pickle
import resource
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import torch
from PIL import Image

import img2img
from tests.tasks.forged import archive, call, dictionary, named, plain, tensor

SECONDS, MEGABYTES = 60, 1500
RECIPE: dict[str, Any] = {
    "class_path": "img2img.tasks.Restoration",
    "init_args": {"network": {"class_path": "img2img.networks.RestorationUNet", "init_args": {"channels": [8, 8]}}},
}
RESTORE = ["restore", "photos", "out", "--model", "m.ckpt", "--accelerator", "cpu"]
FIT = ["fit", "--config", "c.yaml", "--trainer.accelerator=cpu", "--trainer.max_steps=1"]
DATA = "data: {class_path: CorruptedPairs, init_args: {root: photos, crop_size: 16, batch_size: 1}}\n"
NET = "{class_path: RestorationUNet, init_args: {channels: [8, 8]}}"
CONFIG = f"model: {{class_path: Restoration, init_args: {{network: {NET}}}}}\n{DATA}"
Attack = Callable[[], list[str]]
ATTACKS: dict[str, Attack] = {}


class Evil:
    """Pickles as a call of `os.system`."""

    def __reduce__(self) -> Any:
        return os.system, ("touch RAN",)


def attack(name: str) -> Callable[[Attack], Attack]:
    """Registers an attack, which prepares files and returns the command."""
    return lambda function: ATTACKS.setdefault(name, function)


def save(recipe: Any, **others: Any) -> list[str]:
    """Writes m.ckpt with a recipe; returns the command that restores with it."""
    about = {"format": 1, "version": "0", "recipe": recipe}
    state = {} if "Upsample" in str(recipe) else img2img.build(RECIPE).state_dict()
    torch.save({"state_dict": state, "img2img": about} | others, "m.ckpt")
    return RESTORE


def with_network(path: str, **arguments: Any) -> dict[str, Any]:
    """Returns the recipe of a task around a network."""
    return {
        "class_path": "img2img.tasks.Restoration",
        "init_args": {"network": {"class_path": path, "init_args": arguments}},
    }


def config(text: str, *flags: str) -> list[str]:
    """Writes c.yaml; returns the command that trains with it."""
    Path("c.yaml").write_text(text)
    return [*FIT, *flags]


def shared(levels: int = 60) -> list[Any]:
    """Returns a list that holds a list twice, and so on."""
    value: list[Any] = [0]
    for _ in range(levels):
        value = [value, value]
    return value


def forged(body: bytes, *more: Any, **records: bytes) -> list[str]:
    """Writes m.ckpt with a pickle made by hand; returns the command that restores with it."""
    archive(Path("m.ckpt"), body, *more, **records)
    return RESTORE


# Checkpoints ------------------------------------------------------------------------------------------------------


def checkpoints() -> None:
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


# Configs ----------------------------------------------------------------------------------------------------------


def configs() -> None:
    """Registers the attacks by configs."""
    levels = range(1, 30)
    bomb = "l0: &l0 [x, x]\n" + "".join(f"l{n}: &l{n} [{', '.join([f'*l{n - 1}'] * 9)}]\n" for n in levels)
    merge = "l0: &l0 {a: 1, b: 2}\n" + "".join(
        f"l{n}: &l{n} {{<<: [{', '.join([f'*l{n - 1}'] * 9)}]}}\n" for n in levels
    )
    for name, text in {
        "python/object/apply": "a: !!python/object/apply:os.system ['touch RAN']\n" + CONFIG,
        "aliases": bomb + CONFIG,
        "merge keys": merge + CONFIG,
        "holds itself": "model: &a {x: *a}\n" + DATA,
        "100,000 levels": "model: " + "[" * 100_000,
        "5,000 digits": f"seed_everything: {'9' * 5000}\n" + CONFIG,
        "class_path of subprocess.Popen": CONFIG.replace("RestorationUNet", "subprocess.Popen"),
        "optimizer os.system": CONFIG.replace("network:", "optimizer: os.system, network:"),
        "optimizer builtins.exec": CONFIG.replace("network:", "optimizer: builtins.exec, network:"),
        "callback that is no callback": CONFIG
        + "trainer: {callbacks: [{class_path: subprocess.Popen, init_args: {args: [touch, RAN]}}]}\n",
        "strategy os.system": CONFIG
        + "trainer: {strategy: {class_path: os.system, init_args: {command: touch RAN}}}\n",
        "checkpoint at an address": CONFIG + "ckpt_path: http://127.0.0.1:9/x.ckpt\n",
        "weights at an address": CONFIG.replace("network:", "weights: 'http://127.0.0.1:9/x', network:"),
        "name that leaves the folder": CONFIG + "name: ../victim\n",
        "photographs in a FIFO": CONFIG.replace("root: photos", "root: pipe"),
        "not UTF-8": CONFIG + "# \udcff\n",
    }.items():
        ATTACKS[f"config: {name}"] = lambda text=text: config(text) if "\udcff" not in text else raw(text)
    ATTACKS["config: another config with a bomb"] = lambda: (
        Path("bomb.yaml").write_text(bomb),
        config(f"model: bomb.yaml\n{DATA}"),
    )[1]


def raw(text: str) -> list[str]:
    """Writes c.yaml with bytes that are not UTF-8."""
    Path("c.yaml").write_bytes(text.encode("utf-8", "surrogateescape"))
    return FIT


# Images, journals, tables -----------------------------------------------------------------------------------------

SHIPPED = ["restore", "photos", "out", "--model", "denoise", "--accelerator", "cpu", "--memory", "2GB"]


def images() -> None:
    """Registers the attacks by images and by what lies in the output folder."""
    big = io.BytesIO()
    Image.new("L", (30_000, 30_000)).save(big, "PNG")
    svg = b'<svg xmlns="http://www.w3.org/2000/svg" width="9" height="9">'
    svg += b'<image href="http://127.0.0.1:9/x" width="9" height="9"/></svg>'
    for name, (file, content) in {
        "SVG that loads an address": ("a.png", svg),
        "PostScript": ("a.tif", b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n(RAN) (w) file closefile\nshowpage"),
        "ImageMagick script": (
            "a.png",
            b"push graphic-context\nviewbox 0 0 9 9\nimage over 0,0 0,0 '|touch RAN'\npop graphic-context",
        ),
        "900 megapixels in 1 MB": ("a.png", big.getvalue()),
        "name with options of libvips": ("a.tif[n=-1,x=`touch RAN`].png", photo()),
        "name that is an option": ("--overwrite.png", photo()),
        "name with control characters": ("a\x1b[2J\n\r.png", photo()),
    }.items():
        ATTACKS[f"image: {name}"] = lambda file=file, content=content: (
            Path("photos", file).write_bytes(content),
            [*SHIPPED, *(["--dry_run"] if len(content) > 10**5 else [])],
        )[1]
    for name, lines in {
        "leads outside": ['{"name": "../victim/photo.png", "source": "x", "status": "restored", "at": 1}'],
        "1,000 brackets": ["[" * 100_000],
        "types": ['{"name": [], "source": {}, "status": "restored", "at": "x"}', "3", "[]", "null", '{"at": 1}'],
        "begun outside": ['{"begun": "../victim/photo.png", "at": 1}', '{"begun": {}, "at": 2}'],
    }.items():
        ATTACKS[f"journal: {name}"] = lambda lines=lines: journal(lines)


def photo() -> bytes:
    """Returns a small PNG."""
    file = io.BytesIO()
    Image.fromarray(np.arange(48 * 48 * 3, dtype=np.uint8).reshape(48, 48, 3)).save(file, "PNG")
    return file.getvalue()


def journal(lines: list[str]) -> list[str]:
    """Restores, adds lines to the journal, and returns the command that continues."""
    subprocess.run([sys.executable, "-P", "-c", _PROGRAM, *SHIPPED], env=_ENVIRONMENT, check=True)
    with Path("out/.img2img/journal-0.jsonl").open("a") as file:
        file.write("\n" + "\n".join(lines) + "\n")
    Path("photos/new.png").write_bytes(photo())
    return SHIPPED


@attack("image: link to the victim, and FIFO")
def _() -> list[str]:
    Path("photos/link.png").symlink_to(Path("victim/photo.png").absolute())
    os.mkfifo("photos/fifo.png")
    return SHIPPED


@attack("output: .img2img is a link to the victim")
def _() -> list[str]:
    Path("out").mkdir()
    Path("out/.img2img").symlink_to(Path("victim").absolute())
    return SHIPPED


@attack("output: report and page are links to the victim")
def _() -> list[str]:
    Path("out").mkdir()
    for name in ("restore_report.json", "restore_report.html"):
        Path("out", name).symlink_to(Path("victim/photo.png").absolute())
    return [*SHIPPED, "--html"]


@attack("output: run.json of 100,000 brackets")
def _() -> list[str]:
    Path("out/.img2img").mkdir(parents=True)
    for name in ("run.json", "memory.json"):
        Path("out/.img2img", name).write_text("[" * 100_000)
    return SHIPPED


@attack("working directory: modules that libraries look for")
def _() -> list[str]:
    for name in (
        "opt_einsum",
        "gmpy2",
        "regex",
        "snappy",
        "zstandard",
        "tabulate",
        "tensorflow",
        "matplotlib",
        "pandas",
    ):
        Path(f"{name}.py").write_text("open('RAN', 'w')")
    return SHIPPED


@attack("table: npz with an object")
def _() -> list[str]:
    np.savez("t.npz", path=np.array([Evil()], dtype=object), label=np.array(["a"]))
    return ["evaluate-latents", "t.npz"]


@attack("table: npz of 4 GB in 4 MB")
def _() -> list[str]:
    head = io.BytesIO()
    np.lib.format.write_array_header_1_0(head, {"descr": "<f4", "fortran_order": False, "shape": (10**9,)})
    with zipfile.ZipFile("t.npz", "w", zipfile.ZIP_DEFLATED) as file:
        for name in ("path", "label", "mu", "error"):
            with file.open(f"{name}.npy", "w", force_zip64=True) as entry:
                entry.write(head.getvalue())
                for _ in range(1000):
                    entry.write(bytes(10**6))
    return ["evaluate-latents", "t.npz"]


@attack("table: npz whose header claims 10^12 numbers")
def _() -> list[str]:
    head = io.BytesIO()
    np.lib.format.write_array_header_1_0(head, {"descr": "<f4", "fortran_order": False, "shape": (10**10,)})
    with zipfile.ZipFile("t.npz", "w") as file:
        for name in ("path", "label", "mu", "error"):
            file.writestr(f"{name}.npy", head.getvalue())
    return ["evaluate-latents", "t.npz"]


# Running ----------------------------------------------------------------------------------------------------------


_CONNECT = socket.socket.connect


def refuse(self: socket.socket, address: Any) -> None:
    """Notes a connection and refuses it."""
    if self.family == socket.AF_UNIX:
        return _CONNECT(self, address)
    Path("CONNECTED").write_text(str(address))
    raise OSError("no network")


_PROGRAM = """
import socket, sys
from benchmarks.attacks import refuse
socket.socket.connect = refuse
from img2img.cli import main
main(sys.argv[1:])
"""
_ENVIRONMENT = os.environ | {"PYTHONPATH": str(Path(__file__).parent.parent)}


def run(prepare: Attack, fresh: bool) -> tuple[str, str]:
    """Runs an attack in this (forked) process's child; returns how it ended, and what it said last."""
    folder = Path(tempfile.mkdtemp())
    (folder / "photos").mkdir()
    (folder / "victim").mkdir()
    for place in ("photos/one.png", "photos/two.png", "photos/three.png", "photos/four.png", "victim/photo.png"):
        (folder / place).write_bytes(photo())
    os.mkfifo(folder / "pipe")
    (folder / "evil.py").write_text("open('RAN', 'w')\nclass Net: pass\n")
    before = (folder / "victim/photo.png").stat()
    if fresh:
        (folder / "before").write_text("700000")
    started, child = time.monotonic(), os.fork()
    if child == 0:
        _attack(folder, prepare, fresh)
    code, peak = None, 0
    while code is None and time.monotonic() - started < SECONDS:
        done, status, usage = os.wait4(child, os.WNOHANG)
        if done:
            code, peak = os.waitstatus_to_exitcode(status), usage.ru_maxrss
        else:
            time.sleep(0.05)
    seconds = time.monotonic() - started
    if code is None:
        os.killpg(child, signal.SIGKILL)
        os.waitpid(child, 0)
    said = (folder / "said").read_text(errors="replace") if (folder / "said").exists() else ""
    base = int((folder / "before").read_text()) if (folder / "before").exists() else 0
    now = (folder / "victim/photo.png").stat() if (folder / "victim/photo.png").exists() else None
    flaws = list(
        _flaws(folder, code, said, (peak - base) // 1024, now is not None and now.st_mtime_ns == before.st_mtime_ns)
    )
    lines = [line for line in said.replace("\r", "\n").splitlines() if line.strip() and "Restoring" not in line]
    shutil.rmtree(folder)
    return ", ".join(flaws) or f"held (exit {code}, {seconds:.0f} s, +{max(0, (peak - base) // 1024)} MB)", lines[-1][
        :110
    ] if lines else ""


def _attack(folder: Path, prepare: Attack, fresh: bool) -> NoReturn:
    """Runs an attack and ends this process."""
    os.setsid()
    os.chdir(folder)
    for number in (1, 2):
        os.dup2(os.open("said", os.O_CREAT | os.O_WRONLY | os.O_APPEND), number)
    socket.socket.connect = refuse  # type: ignore[method-assign]
    code = 99
    try:
        command = prepare()
        if fresh:  # libvips does not survive a fork
            os.execve(sys.executable, [sys.executable, "-P", "-c", _PROGRAM, *command], _ENVIRONMENT)
        Path("before").write_text(str(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss))
        from img2img.cli import main

        main(command)
        code = 0
    except SystemExit as stop:
        code = int(stop.code or 0)
    except BaseException:
        import traceback

        traceback.print_exc()
    finally:
        os._exit(code)


def _flaws(folder: Path, code: int | None, said: str, more: int, unharmed: bool) -> Iterator[str]:
    if code is None:
        yield "NO END"
    elif code not in (0, 1, 2):
        yield f"CRASH {code}"
    if "Traceback" in said:
        yield "TRACEBACK"
    if list(folder.rglob("RAN")):
        yield "CODE RAN"
    if (folder / "CONNECTED").exists():
        yield "NETWORK " + (folder / "CONNECTED").read_text()
    if not unharmed or len(list((folder / "victim").iterdir())) != 1:
        yield "WROTE OUTSIDE: " + ", ".join(path.name for path in (folder / "victim").iterdir())
    if more > MEGABYTES:
        yield f"{more} MB"


def main(words: list[str]) -> None:
    """Runs the attacks and prints the tally."""
    checkpoints()
    configs()
    images()
    import img2img.inference.run
    import img2img.inference.writer
    import img2img.training.cli  # noqa: F401

    chosen = {name: each for name, each in ATTACKS.items() if not words or any(word in name for word in words)}
    held = 0
    for name, prepare in chosen.items():
        result, last = run(prepare, name.startswith(("image", "journal", "output", "working")))
        held += result.startswith("held")
        print(f"{name:<62} {result}\n{'':<8}{last}", flush=True)
    print(f"{held} of {len(chosen)} held")


if __name__ == "__main__":
    main(sys.argv[1:])
