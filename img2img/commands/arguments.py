"""What can be known of a command line without the seconds that torch takes to import."""

from __future__ import annotations

import difflib
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from img2img.commands.runs import RUNS, newest_checkpoint, run_name
from img2img.errors import UserError
from img2img.shipped import find_model, is_safetensors, shipped_configs, shipped_folder

# The first components of the flags: Lightning CLI's own and those of our callbacks.
GROUPS = (
    *("config", "c", "help", "h", "print_config", "seed_everything", "trainer", "model", "data", "ckpt_path"),
    *("weights_only", "verbose", "return_predictions"),
    *("average", "best", "last", "grid", "output"),
)
FOLDERS = ("data.val_dir", "data.test_dir", "data.predict_dir")
ROOTS = ("data.root", "data.input_root", "data.target_root")  # folders, or sets that came with the program
_NULL = ("null", "~", "")  # YAML's words for nothing
CHECKED = (*FOLDERS, *ROOTS, "trainer.default_root_dir", "ckpt_path", "model.weights")


@dataclass(frozen=True)
class Arguments:
    """A checked command line.

    Attributes:
        argv: The arguments, with configs and checkpoints as paths.
        name: Under which the runs of this config lie.
        root: The folder of all runs.
        resumed: The folder of the run that goes on, if one does.
    """

    argv: list[str]
    name: str
    root: Path
    resumed: Path | None


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
    for option in FOLDERS:
        if option in values and not Path(values[option]).expanduser().exists():
            raise UserError(f"--{option} {values[option]} does not exist")
    for option in ROOTS:
        for root in _listed(values.get(option)):
            if not Path(root).expanduser().is_dir() and shipped_folder(root) is None:
                raise UserError(f"--{option} {root} does not exist; give a folder of photographs")
    name = run_name(configs[0] if configs else None)
    runs = Path(values.get("trainer.default_root_dir", RUNS)).expanduser()
    flags = {option for option, value in pairs if value is not None}
    checkpoint = None if asks_only else _find_checkpoint(command, values, flags, runs, name)
    resumed = checkpoint.parent if command == "fit" and checkpoint and values["ckpt_path"] in ("last", "best") else None
    return Arguments(_rewrite(pairs, configs, checkpoint), name, runs, resumed)


def _listed(roots: str | list[str] | None) -> list[str]:
    """Returns one root or several, given as YAML or as text such as "[a, b]", as a list."""
    if isinstance(roots, str) and roots.startswith("["):
        try:
            roots = yaml.safe_load(roots)
        except yaml.YAMLError:
            return [str(roots)]
    return [] if roots is None else [str(root) for root in roots] if isinstance(roots, list) else [roots]


def _values(configs: Sequence[Path]) -> dict[str, Any]:
    """Returns what the configs say of the options that are looked at here, under the flags' names."""
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
            if isinstance(value, str) or (option in ROOTS and isinstance(value, list)):
                found[option] = value
    return found


def read_config(config: Path) -> dict[str, Any]:
    """Returns a config's settings.

    Raises:
        UserError: If the file is not YAML, or holds no settings.
    """
    try:
        tree = yaml.safe_load(config.read_text(encoding="utf-8"))
    except yaml.YAMLError as error:
        reason = " ".join(str(error).split())
        raise UserError(f"{config} is not YAML: {reason}") from error
    if not isinstance(tree, dict):
        raise UserError(f"{config} holds no settings; a config has model:, data: and trainer:")
    return tree


def find_config(config: str) -> Path:
    """Returns the path of a config: as given, else among the shipped ones.

    Raises:
        UserError: If there is neither.
    """
    path = Path(config).expanduser()
    if path.is_file():
        return path
    shipped = {file.name: file for file in shipped_configs()}
    if config in shipped:
        return shipped[config]
    close = difflib.get_close_matches(config, shipped, n=1)
    hint = f"did you mean {close[0]}?" if close else f"the shipped ones are {', '.join(shipped)}"
    raise UserError(f"there is no config {config}, neither here nor among the shipped ones; {hint}")


def _split(argv: Sequence[str]) -> list[tuple[str, str | None]]:
    """Splits arguments to (option, value), with dashes taken off."""
    pairs: list[tuple[str, str | None]] = []
    for word in argv:
        if word.startswith("-") and not _is_number(word):
            option, equals, value = word.lstrip("-").partition("=")
            pairs.append((option, value if equals else None))
        elif pairs and pairs[-1][1] is None:
            pairs[-1] = (pairs[-1][0], word)
        else:
            raise UserError(f"{word!r} is not an option; options begin with --, such as --trainer.max_steps 100")
    return pairs


def _is_number(word: str) -> bool:
    try:
        float(word)
    except ValueError:
        return False
    return True


def _check_group(command: str, option: str) -> None:
    group = option.split(".", maxsplit=1)[0].rstrip("+")
    if group not in GROUPS:
        close = difflib.get_close_matches(group, GROUPS, n=1)
        hint = f"; did you mean --{close[0]}{option[len(group) :]}?" if close else ""
        raise UserError(f"unknown option --{option}{hint} (`img2img {command} --help` shows the options)")


def _find_checkpoint(
    command: str, values: dict[str, Any], flags: Collection[str], root: Path, name: str
) -> Path | None:
    weights = values.get("model.weights")
    if weights not in (None, *_NULL):
        find_model(weights, "--model.weights")
    given = values.get("ckpt_path")
    if given in ("last", "best"):
        return newest_checkpoint(root, name, given)
    if given is not None:
        found = find_model(given, "--ckpt_path")
        if command == "fit" and is_safetensors(found):
            raise UserError(
                f"--ckpt_path {given} holds a model, not the state of a training that could go on; "
                f"--model.weights {given} starts a new one from it"
            )
        return found
    if command != "fit" and "model.weights" not in flags:
        raise UserError(f"{command} needs a trained model: --ckpt_path runs/{name}/0/best.ckpt, or --ckpt_path best")
    return None


def _rewrite(pairs: Sequence[tuple[str, str | None]], configs: Sequence[Path], checkpoint: Path | None) -> list[str]:
    found = iter(configs)
    argv: list[str] = []
    for option, given in pairs:
        value = given
        if option in ("config", "c") and given is not None:
            value = str(next(found))
        elif option == "ckpt_path":
            continue
        elif option == "data.predict_mask" and value is not None and value.startswith("#"):
            value = f'"{value}"'  # a colour, which YAML would take for a comment
        argv.append(f"--{option}" if value is None else f"--{option}={value}")
    return argv if checkpoint is None else [*argv, f"--ckpt_path={checkpoint}"]
