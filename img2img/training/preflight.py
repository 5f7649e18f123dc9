"""Checks of a command line that need no import of torch, which takes seconds."""

from __future__ import annotations

import difflib
import re
import warnings
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from img2img.errors import UserError
from img2img.own_classes import modules_in
from img2img.plain_yaml import read_yaml, read_yaml_file
from img2img.shipped import find_model, is_safetensors, shipped_configs, shipped_folder
from img2img.training.runs import RUNS, newest_checkpoint, run_name, run_to_resume

# The first components of the flags: Lightning CLI's own, and our callbacks'.
GROUPS = (
    *("config", "c", "help", "h", "print_config", "seed_everything", "trainer", "model", "data", "ckpt_path"),
    *("weights_only", "verbose", "return_predictions"),
    *("average", "best", "last", "grid", "divergence", "restore", "name", "resume"),
)
HOMES = {
    "trainer": ("max_steps", "max_epochs", "max_time", "devices", "accelerator", "num_nodes", "precision", "strategy"),
    "data": ("root", "batch_size", "crop_size", "num_workers", "val_dir", "test_dir", "corruption"),
    "model": ("lr", "loss", "network", "optimizer", "weights", "decay_steps"),
}
"""Options that people give without their group."""
RENAMED = {
    "data.predict_dir": "restore.input",
    "data.predict_mask": "restore.mask",
    "output.folder": "restore.output",
}
"""Old and new names of options; every other `output.X` became `restore.X`."""
FOLDERS = ("data.val_dir", "data.test_dir", "restore.input")
ROOTS = ("data.root", "data.input_root", "data.target_root")  # folders, or sets that come with the program
_NULL = ("null", "~", "")  # YAML's words for null
_OLD_DEFAULTS = ("restored", "keep", 95)  # of output.folder, output.format and output.quality, in saved configs
CHECKED = (*FOLDERS, *ROOTS, "restore.output", "trainer.default_root_dir", "ckpt_path", "model.weights")
_PATHS = frozenset(option.rpartition(".")[2] for option in CHECKED)


@dataclass(frozen=True)
class Arguments:
    """A checked command line.

    Attributes:
        argv: The arguments, with configs and checkpoints as paths.
        name: Name of the folder of this config's runs.
        root: The folder of all runs.
        resumed: The folder of the run to go on in, if there is one.
        goes_on: Whether the same command, given again, goes on in this run.
        modules: Names of the modules of the classes that configs and flags name.
        folders: The folders of the configs, where the user's own modules may lie.
    """

    argv: list[str]
    name: str
    root: Path
    resumed: Path | None
    modules: frozenset[str] = frozenset()
    folders: tuple[Path, ...] = ()
    goes_on: bool = False


def check(command: str, argv: Sequence[str]) -> Arguments:
    """Checks options, config, folders and checkpoint.

    Raises:
        UserError: If something is unknown or does not exist; the message says what would be right.
    """
    pairs = _split(argv)
    for option, _ in pairs:
        _check_group(command, option)
    options = {option for option, _ in pairs}
    configs = [find_config(value) for option, value in pairs if option in ("config", "c") and value is not None]
    asks_only = "print_config" in options or any(option.endswith("help") for option in options)
    if not configs and not asks_only and not any(option.split(".")[0] == "model" for option in options):
        raise UserError("give --config, such as --config denoise.yaml; `img2img configs` lists the shipped ones")
    values = _values(configs) | {option: value for option, value in pairs if value is not None}
    _check_folders(command, values)
    if command == "predict" and not asks_only and not {"restore.input", "restore.output"} <= values.keys():
        raise UserError("predict needs --restore.input, the images to restore, and --restore.output, where they go")
    name = values.get("name") or run_name(configs[0] if configs else None)
    if Path(name).name != name or name.startswith("."):
        raise UserError(f"--name {name} must be the name of a folder under runs/, such as --name first_try")
    runs = Path(values.get("trainer.default_root_dir", RUNS)).expanduser()
    resumed, checkpoint = (None, None) if asks_only else _find_checkpoint(command, values, options, runs, name)
    argv = _rewrite(command, pairs, configs, checkpoint)
    goes_on = "resume" in options or values.get("ckpt_path") == "last"
    folders = tuple(file.parent for file in configs)
    return Arguments(argv, name, runs, resumed, modules_named(configs, argv), folders, goes_on)


def modules_named(configs: Sequence[Path], flags: Sequence[str]) -> frozenset[str]:
    """Returns the names of the modules of all classes that configs, or files that these refer to, and flags name."""
    trees: list[Any] = [read_config(config) for config in configs]
    for flag in flags:
        option, equals, value = flag.lstrip("-").partition("=")
        if (equals or not flag.startswith("-")) and option not in (*CHECKED, "config", "c"):
            text = value if equals else flag
            trees.append(read_yaml(text, f"--{option}") if text.lstrip()[:1] in ("{", "[") else text)
    return frozenset(module for tree in trees for module in modules_in(tree, _PATHS))


def _check_folders(command: str, values: dict[str, Any]) -> None:
    for option in FOLDERS:
        for path in _listed(values.get(option)):
            if not _remote(option, path) and not Path(path).expanduser().exists():
                raise UserError(f"--{option} {path} does not exist")
    for option in ROOTS:
        for root in _listed(values.get(option)):
            if not _remote(option, root) and not Path(root).expanduser().is_dir() and shipped_folder(root) is None:
                wrong = "is a file" if Path(root).expanduser().exists() else "does not exist"
                raise UserError(f"--{option} {root} {wrong}; give a folder of photographs")
            if command == "fit":
                _warn_of_masks(option, Path(root).expanduser())


def _remote(option: str, root: str) -> bool:
    """Returns whether a root is an address, which is looked up later: the client's import takes seconds."""
    return option.startswith("data.") and "://" in root


def _listed(roots: str | list[str] | None) -> list[str]:
    """Returns one root or several, given as YAML or as text like "[a, b]", as a list."""
    if isinstance(roots, str) and roots.startswith("["):
        try:
            roots = read_yaml(roots, "the list of folders")
        except UserError:
            return [str(roots)]
    return [] if roots is None else [str(root) for root in roots] if isinstance(roots, list) else [roots]


def _warn_of_masks(option: str, root: Path) -> None:
    """Warns of folders of masks, which would be trained on as if they were images."""
    masks = ", ".join(sorted(path.name for path in root.glob("*_masks") if path.is_dir()))
    good = next((f"; give --{option} {root / name}" for name in ("good", "normal") if (root / name).is_dir()), "")
    if masks:
        warnings.warn(f"--{option} {root} holds masks ({masks}), which are trained on too{good}", stacklevel=2)


def _values(configs: Sequence[Path]) -> dict[str, Any]:
    """Returns the configs' values of the options that are checked here, by the flags' names."""
    found: dict[str, Any] = {}
    for config in configs:
        tree = read_config(config)
        for option in CHECKED:
            *groups, key = option.split(".")
            branch: Any = tree
            for group in groups:
                branch = (branch or {}).get(group)
                branch = branch["init_args"] if isinstance(branch, dict) and "init_args" in branch else branch
            value = branch.get(key) if isinstance(branch, dict) else None
            if isinstance(value, str) or (option in (*ROOTS, "restore.input") and isinstance(value, list)):
                found[option] = value
    return found


def read_config(config: Path) -> dict[str, Any]:
    """Returns a config's settings.

    Raises:
        UserError: If the file is not YAML, or holds no settings.
    """
    tree = read_yaml_file(config)
    if not isinstance(tree, dict):
        raise UserError(f"{config} holds no settings; a config has model:, data: and trainer:")
    return tree


def find_config(config: str) -> Path:
    """Returns the path of a config: as given, else among the shipped ones.

    Raises:
        UserError: If there is no such config in either place.
    """
    path = Path(config).expanduser()
    if path.is_file():
        return path
    shipped = {file.name: file for file in shipped_configs()}
    for name in (config, f"{config}.yaml"):
        if name in shipped:
            return shipped[name]
    close = difflib.get_close_matches(config, shipped, n=1)
    hint = f"did you mean {close[0]}?" if close else f"the shipped ones are {', '.join(shipped)}"
    raise UserError(f"there is no config {config}, neither here nor among the shipped ones; {hint}")


def _split(argv: Sequence[str]) -> list[tuple[str, str | None]]:
    """Splits arguments into (option, value), without leading dashes."""
    pairs: list[tuple[str, str | None]] = []
    for word in argv:
        if word.startswith("-") and not re.match(r"-[\d.]", word):  # -3 is a value
            option, equals, value = word.lstrip("-").partition("=")
            pairs.append((option, value if equals else None))
        elif pairs and pairs[-1][1] is None:
            pairs[-1] = (pairs[-1][0], word)
        else:
            raise UserError(f"{word!r} is not an option; options begin with --, such as --trainer.max_steps 100")
    return pairs


def _check_group(command: str, option: str) -> None:
    group = option.split(".", maxsplit=1)[0].rstrip("+")
    if option in RENAMED or group == "output":
        raise UserError(f"--{option} is now called --{_new_name(option)}, an option of img2img predict")
    if group == "restore" and command != "predict":
        raise UserError(f"--{option} belongs to img2img predict, not to {command}")
    if group not in GROUPS:
        meant = [f"{home}.{option}" for home, names in HOMES.items() if option in names]
        meant += [f"{close}{option[len(group) :]}" for close in difflib.get_close_matches(group, GROUPS, n=1)]
        hint = f"; did you mean --{meant[0]}?" if meant else ""
        raise UserError(f"unknown option --{option}{hint} (`img2img {command} --help` shows the options)")


def _new_name(option: str) -> str:
    return RENAMED.get(option, "restore." + option.removeprefix("output."))


def _config_argument(config: Path, command: str) -> str:
    """Returns a config's path; or its text without what the command does not take: old options, those of `predict`."""
    tree = read_current(config)
    if command != "predict":
        tree.pop("restore", None)
    return str(config) if tree == read_config(config) else yaml.safe_dump(tree, sort_keys=False)


def read_current(config: Path) -> dict[str, Any]:
    """Returns a config's settings without old options at their defaults.

    Raises:
        UserError: If the file is not a config, or an old option has another value than its default.
    """
    tree = read_config(config)
    data, output = tree.get("data"), tree.get("output")
    arguments = data.get("init_args") if isinstance(data, dict) else None
    for prefix, branch in (("output.", output), ("data.", arguments)):
        if not isinstance(branch, dict):
            continue
        for key in [key for key in branch if prefix == "output." or f"data.{key}" in RENAMED]:
            if branch.pop(key) not in (None, False, *_OLD_DEFAULTS):
                raise UserError(f"{config}: {prefix}{key} is now called {_new_name(prefix + key)}")
    if isinstance(output, dict):
        del tree["output"]
    return tree


def _find_checkpoint(
    command: str, values: dict[str, Any], options: Collection[str], root: Path, name: str
) -> tuple[Path | None, Path | None]:
    """Returns the folder of the run to go on in, and the checkpoint; None where there is none."""
    weights = values.get("model.weights")
    if weights not in (None, *_NULL):
        find_model(weights, "--model.weights")
    given = values.get("ckpt_path")
    if "resume" in options:
        return run_to_resume(root, name, command == "fit" and values.get("resume") == "auto" and given is None)
    if given in ("last", "best"):
        found = newest_checkpoint(root, name, given)
        return found.parent if command == "fit" else None, found
    if given is not None:
        found = find_model(given, "--ckpt_path")
        if command == "fit" and is_safetensors(found):
            wrong = f"--ckpt_path {given} holds a model, not the state of a run that could resume"
            raise UserError(f"{wrong}; --model.weights {given} starts a new one from it")
        return None, found
    if command != "fit" and "model.weights" not in options:
        raise UserError(f"{command} needs a trained model: --ckpt_path runs/{name}/0/best.ckpt, or --ckpt_path best")
    return None, None


def _rewrite(
    command: str, pairs: Sequence[tuple[str, str | None]], configs: Sequence[Path], checkpoint: Path | None
) -> list[str]:
    found = iter(configs)
    argv: list[str] = []
    for option, given in pairs:
        value = given
        if option in ("config", "c") and given is not None:
            value = _config_argument(next(found), command)
        elif option in ("ckpt_path", "name", "resume"):
            continue
        elif option == "restore.mask" and value is not None and value.startswith("#"):
            value = f'"{value}"'  # a colour, which YAML would read as a comment
        argv.append(f"--{option}" if value is None else f"--{option}={value}")
    given_options = {option.replace("init_args.", ""): value for option, value in pairs}
    size = given_options.get("data.image_size")
    # Weights bring the sizes of their network along.
    has_own = any(option.startswith(("model.network", "model.weights", "ckpt_path")) for option in given_options)
    if size is not None and not has_own:
        argv.append(f"--model.network.init_args.image_size={size}")
    csv = (given_options.get("trainer.logger") or "").endswith("CSVLogger")
    if csv and not any("save_dir" in option for option in given_options):  # which it needs
        argv.append("--trainer.logger.init_args.save_dir=runs/logs")
    return argv if checkpoint is None else [*argv, f"--ckpt_path={checkpoint}"]
