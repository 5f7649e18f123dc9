"""The table of what an autoencoder makes of a folder of images, and the files that hold it: npz, CSV, Parquet."""

from __future__ import annotations

import csv
import re
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from img2img.errors import UserError
from img2img.imaging.parts import appearing

SUFFIXES = (".npz", ".csv", ".parquet")
Floats = NDArray[np.float32]

_DAMAGE = (ValueError, KeyError, TypeError, AttributeError, OSError, EOFError, zipfile.BadZipFile, csv.Error)
"""What reading a file raises that is no table of latents."""


@dataclass(frozen=True, eq=False)
class LatentTable:
    """N images as an autoencoder sees them.

    Attributes:
        path: Their paths, relative to the folder, with forward slashes.
        label: The folders that they lie in, relative to the same; empty at its top.
        mu: Latents, N×k; of a variational model the posterior's mean.
        error: Mean squared error per value of the reconstruction from `mu`, for images in [0, 1]; N.
        log_variance: Of the posterior, N×k; None where a code is a point.
        pca: Coordinates among the training images' principal components, as many as there are latents (fewer if there
            were fewer images); None where the model knows none.
        pca_error: As `error`, of the reconstruction from `pca`.
        problems: A line for each file that could not be read; not saved.
    """

    path: list[str]
    label: list[str]
    mu: Floats
    error: Floats
    log_variance: Floats | None = None
    pca: Floats | None = None
    pca_error: Floats | None = None
    problems: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.path)

    def save(self, output: Path) -> None:
        """Writes the table in the format of the suffix; the file appears complete or not at all.

        An npz has the attributes as arrays; those that are None are absent. CSV and Parquet have the columns path,
        label, error, pca_error, mu_0 …, log_variance_0 …, pca_0 ….

        Raises:
            UserError: If the suffix is none of `SUFFIXES`, or Parquet's package is missing.
        """
        check_format(output)
        save = {".npz": self._save_npz, ".csv": self._save_csv, ".parquet": self._save_parquet}[output.suffix.lower()]
        with appearing(output) as part:
            save(part)

    @classmethod
    def load(cls, path: Path) -> LatentTable:
        """Reads a file that `save` wrote, of the format that its suffix says; runs no code that may stand in it.

        Raises:
            FileNotFoundError: If there is no such file.
            UserError: If it holds no such table, or Parquet's package is missing.
        """
        if not path.is_file():
            raise FileNotFoundError(f"{path} does not exist; `img2img encode IN {path} --model M` writes it")
        suffix = path.suffix.lower()
        if suffix == ".parquet":
            _check_parquet()
        read = {".csv": _read_csv, ".parquet": _read_parquet}.get(suffix, _read_npz)
        try:
            table = cls(**read(path))
        except _DAMAGE as error:
            raise UserError(f"{path} is no table of latents: write one with `img2img encode IN OUT.npz`") from error
        table._check(path)
        return table

    def _check(self, path: Path) -> None:
        parts = (getattr(self, name) for name in _SAVED)
        if {len(part) for part in parts if part is not None} != {len(self)} or self.mu.ndim != 2:
            raise UserError(f"{path} is damaged: its arrays differ in length; write it again with `img2img encode`")

    def _save_npz(self, part: Path) -> None:
        found = {name: getattr(self, name) for name in _SAVED}
        arrays: dict[str, Any] = {name: np.asarray(values) for name, values in found.items() if values is not None}
        with part.open("wb") as file:  # a name would get .npz appended
            np.savez(file, **arrays)

    def _save_csv(self, part: Path) -> None:
        columns = dict(self._columns())
        # Names that are not valid Unicode get into the file as the bytes that they are on the disk.
        with part.open("w", newline="", encoding="utf-8", errors="surrogateescape") as file:
            writer = csv.writer(file)
            writer.writerow(columns)
            for row in zip(*columns.values(), strict=True):
                writer.writerow(value if isinstance(value, str) else f"{value:.9g}" for value in row)

    def _save_parquet(self, part: Path) -> None:
        import pyarrow
        from pyarrow import parquet

        columns = {name: _unicode(values) for name, values in self._columns()}
        parquet.write_table(pyarrow.table(columns), part)

    def _columns(self) -> Iterator[tuple[str, Sequence[str] | Floats]]:
        """Yields flat columns by name."""
        for name in ("path", "label", "error", "pca_error"):
            if (values := getattr(self, name)) is not None:
                yield name, values
        for name in ("mu", "log_variance", "pca"):
            if (values := getattr(self, name)) is not None:
                for i in range(values.shape[1]):
                    yield f"{name}_{i}", values[:, i]


_SAVED = tuple(field.name for field in fields(LatentTable) if field.name != "problems")


def check_format(output: Path) -> None:
    """Refuses a table that could not be written.

    Raises:
        UserError: If the suffix is none of `SUFFIXES`, or Parquet's package is missing.
    """
    if output.suffix.lower() not in SUFFIXES:
        raise UserError(f"{output}: a table of latents is written as {', '.join(SUFFIXES)}")
    if output.suffix.lower() == ".parquet":
        _check_parquet()


def _check_parquet() -> None:
    try:
        import pyarrow.parquet  # noqa: F401
    except ImportError as error:
        raise UserError(
            "Parquet needs a package more: pip install '.[parquet]' in a clone of img2img, or write .csv"
        ) from error


def _read_npz(path: Path) -> dict[str, Any]:
    with np.load(path, allow_pickle=False) as file:
        arrays: dict[str, Any] = {name: file[name] for name in _SAVED if name in file}
    return arrays | {name: arrays[name].tolist() for name in ("path", "label")}


def _read_csv(path: Path) -> dict[str, Any]:
    with path.open(newline="", encoding="utf-8", errors="surrogateescape") as file:
        header, *rows = csv.reader(file)
    return _of_columns(dict(zip(header, zip(*rows, strict=True), strict=True)))


def _read_parquet(path: Path) -> dict[str, Any]:
    from pyarrow import parquet

    return _of_columns(parquet.read_table(path).to_pydict())


def _of_columns(columns: Mapping[str, Sequence[Any]]) -> dict[str, Any]:
    """Returns the table's attributes from flat columns, such as `mu` from mu_0 and mu_1."""
    found: dict[str, Any] = {name: list(columns[name]) for name in ("path", "label")}
    for name in ("error", "pca_error"):
        if name in columns:
            found[name] = np.array(columns[name], np.float32)
    for name in ("mu", "log_variance", "pca"):
        count = sum(re.fullmatch(rf"{name}_\d+", column) is not None for column in columns)
        if count:
            found[name] = np.stack([np.array(columns[f"{name}_{i}"], np.float32) for i in range(count)], 1)
    return found


def _unicode(values: Sequence[str] | Floats) -> Any:
    """Returns names as Parquet can hold them: with escapes for bytes that are not valid Unicode."""
    if isinstance(values, np.ndarray):
        return values
    return [name.encode("utf-8", "backslashreplace").decode() for name in values]
