"""Attacks by configs."""

from __future__ import annotations

from pathlib import Path

from benchmarks.attacks.kit import ATTACKS, CONFIG, DATA, FIT, config


def register() -> None:
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
