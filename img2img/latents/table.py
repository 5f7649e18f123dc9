"""The table of the latents and reconstruction errors of a folder's images, and its files: npz, CSV, Parquet."""

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

_DAMAGE = (
    *(ValueError, KeyError, TypeError, AttributeError, OSError, EOFError, MemoryError),
    *(zipfile.BadZipFile, csv.Error),
)
"""Exceptions from reading a file that is not a table of latents."""


@dataclass(frozen=True, eq=False)
class LatentTable:
    """N images as an autoencoder sees them.

    Attributes:
        path: Paths relative to the encoded folder, with forward slashes.
        label: Folders of the images, relative to the same; empty at its top.
        mu: Latents, N×k; of a variational model the posterior's mean.
        error: Mean squared error per value of the reconstruction from `mu`, for images in [0, 1]; N.
        log_variance: Log-variance of the posterior, N×k; None for a model without one.
        pca: Coordinates among the training images' principal components, as many as there are latents (fewer if there
            were fewer images); None for a model without PCA.
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
        label, error, pca_error, mu_0 …, log_variance_0 …, pca_0 …. In CSV, names that a spreadsheet would compute begin
        with `./`.

        Raises:
            UserError: If the suffix is not one of `SUFFIXES`, or Parquet's package is missing.
        """
        check_format(output)
        save = {".npz": self._save_npz, ".csv": self._save_csv, ".parquet": self._save_parquet}[output.suffix.lower()]
        with appearing(output) as part:
            save(part)

    @classmethod
    def load(cls, path: Path) -> LatentTable:
        """Reads a file that `save` wrote, in the format of its suffix; runs no code from the file.

        Raises:
            FileNotFoundError: If the file does not exist.
            UserError: If it is not such a table, or Parquet's package is missing.
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
            raise UserError(f"{path} is not a table of latents: write one with `img2img encode IN OUT.npz`") from error
        parts = (getattr(table, name) for name in _SAVED)
        if {len(part) for part in parts if part is not None} != {len(table)} or table.mu.ndim != 2:
            raise UserError(f"{path} is damaged: its arrays differ in length; write it again with `img2img encode`")
        return table

    def _save_npz(self, part: Path) -> None:
        arrays: dict[str, Any] = {name: getattr(self, name) for name in _SAVED if getattr(self, name) is not None}
        with part.open("wb") as file:  # a name would get .npz appended
            np.savez(file, **arrays)

    def _save_csv(self, part: Path) -> None:
        columns = dict(self._columns())
        # Names that are not valid Unicode are written as the bytes that they have on the disk.
        with part.open("w", newline="", encoding="utf-8", errors="surrogateescape") as file:
            writer = csv.writer(file)
            writer.writerow(columns)
            for row in zip(*columns.values(), strict=True):
                writer.writerow(cell(value) if isinstance(value, str) else f"{value:.9g}" for value in row)

    def _save_parquet(self, part: Path) -> None:
        import pyarrow
        from pyarrow import parquet

        columns: dict[str, Any] = dict(self._columns())
        for name in ("path", "label"):  # Parquet holds Unicode alone: other bytes of names become escapes
            columns[name] = [text.encode("utf-8", "backslashreplace").decode() for text in columns[name]]
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


_WIDE = ("\uff1d", "\uff0b", "\uff0d", "\uff20")  # = + - @ of full width, which East Asian spreadsheets compute


def cell(text: str) -> str:
    """Returns a path or label as a spreadsheet shows it: one like `=1+2` would be computed, so it becomes `./=1+2`.

    It still leads to the same file.
    """
    return f"./{text}" if text.startswith(("=", "+", "-", "@", "\t", "\r", "\n", *_WIDE)) else text


def check_format(output: Path) -> None:
    """Checks that a table can be written.

    Raises:
        UserError: If the suffix is not one of `SUFFIXES`, or Parquet's package is missing.
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
            "Parquet needs another package: pip install '.[parquet]' in a clone of img2img, or write .csv"
        ) from error


def _read_npz(path: Path) -> dict[str, Any]:
    with zipfile.ZipFile(path) as archive:
        size = sum(entry.file_size for entry in archive.infolist())
    if size > 20 * path.stat().st_size:  # latents compress badly: this is a file made to fill the memory
        raise ValueError("expands too far")
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
    found: dict[str, Any] = {name: [text.removeprefix("./") for text in columns[name]] for name in ("path", "label")}
    for name in ("error", "pca_error"):
        if name in columns:
            found[name] = np.array(columns[name], np.float32)
    for name in ("mu", "log_variance", "pca"):
        count = sum(re.fullmatch(rf"{name}_\d+", column) is not None for column in columns)
        if count:
            found[name] = np.stack([np.array(columns[f"{name}_{i}"], np.float32) for i in range(count)], 1)
    return found
