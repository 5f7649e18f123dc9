"""Files that ship with the program: configs, starter sets, and models that go by a name."""

from __future__ import annotations

import difflib
import warnings
from pathlib import Path

from img2img.errors import UserError

_PACKAGE = Path(__file__).parent
_CLONE = _PACKAGE.parent
_IN_CLONE = {"configs": "configs", "starter": "data/starter", "starter_jpeg": "data/starter_jpeg"}


def shipped_folder(name: str) -> Path | None:
    """Returns the shipped folder `configs`, `starter` or `starter_jpeg`; None for any other name."""
    if name not in _IN_CLONE:
        return None
    # A wheel carries the folders inside the package. An editable install must use the clone's own folders, as a copy
    # made when a wheel was built would grow stale: so the clone comes first.
    in_clone = _CLONE / _IN_CLONE[name]
    if (_CLONE / "pyproject.toml").is_file() and in_clone.is_dir():
        return in_clone
    return _PACKAGE / "shipped" / name


def shipped_configs() -> list[Path]:
    """Returns the shipped configs, sorted by name."""
    folder = shipped_folder("configs")
    return sorted(folder.glob("*.yaml")) if folder else []


def shipped_models() -> dict[str, Path]:
    """Returns the files of the models that come with the program, by name."""
    return {file.stem: file for file in sorted((_PACKAGE / "weights").glob("*.safetensors"))}


def is_safetensors(path: Path) -> bool:
    """Returns whether a file starts like one in the safetensors format, whatever its suffix; it may be truncated."""
    with path.open("rb") as file:
        head = file.read(9)
    # The header's length and its first character (it is JSON); the format allows no header above 100 MB.
    return head[8:] == b"{" and int.from_bytes(head[:8], "little") <= 100_000_000


def find_model(model: str | Path, option: str = "--model") -> Path:
    """Returns the file of a model: the shipped one of that name, else the path as given.

    Args:
        model: A name, such as `denoise`, or a path. A bare name always means the shipped model; `./denoise` is a file.
        option: Name of the option, for messages.

    Raises:
        FileNotFoundError: If there is no shipped model and no file of that name.
        UserError: If the path is a folder.
    """
    models = shipped_models()
    if isinstance(model, str) and model in models:
        if Path(model).exists():
            said = f"{option} {model} is the shipped model; the file of that name here is ./{model}"
            warnings.warn(said, stacklevel=2)
        return models[model]
    path = Path(model).expanduser()
    if path.is_file():
        return path
    if path.is_dir():
        there = [*sorted(path.glob("*.ckpt")), path / "best.ckpt"]
        raise UserError(f"{option} {model} is a folder; give a checkpoint in it, such as {there[0]}")
    close = difflib.get_close_matches(str(model), models, n=1)
    hint = f"did you mean {close[0]}?" if close else "give a checkpoint that `img2img fit` wrote"
    if str(model) in models:
        hint = f"for the shipped model, give its name as a string, {str(model)!r}"
    if models and not close:
        hint += f"; the shipped models are {', '.join(models)}"
    raise FileNotFoundError(f"{option} {model} does not exist; {hint}")


def card_of(model: Path) -> Path:
    """Returns the path of a model's card, the Markdown file beside it.

    Raises:
        FileNotFoundError: If the model has no card.
    """
    card = model.with_suffix(".md")
    if not card.is_file():
        raise FileNotFoundError(f"{model} has no card {card.name} beside it")
    return card


def summary_of(card: Path) -> str:
    """Returns the first line below a card's heading."""
    lines = card.read_text(encoding="utf-8").splitlines()
    return next((line.strip() for line in lines[1:] if line.strip()), "")
