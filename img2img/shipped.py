"""Where the files that travel with the program lie: configs and the starter sets."""

from __future__ import annotations

from pathlib import Path

_PACKAGE = Path(__file__).parent
_CLONE = _PACKAGE.parent
# A wheel carries the folders inside the package. An editable install must see the clone's own, which a wheel's build
# would have copied once and left to grow stale: so the clone is asked first.
_IN_CLONE = {
    "configs": _CLONE / "configs",
    "starter": _CLONE / "data" / "starter",
    "starter_jpeg": _CLONE / "data" / "starter_jpeg",
}


def shipped_folder(name: str) -> Path | None:
    """Returns the folder `configs`, `starter` or `starter_jpeg` that came along, or None for any other name."""
    if name not in _IN_CLONE:
        return None
    if (_CLONE / "pyproject.toml").is_file() and _IN_CLONE[name].is_dir():
        return _IN_CLONE[name]
    return _PACKAGE / "shipped" / name


def shipped_configs() -> list[Path]:
    """Returns the shipped configs, sorted by name."""
    folder = shipped_folder("configs")
    return sorted(folder.glob("*.yaml")) if folder else []
