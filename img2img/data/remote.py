"""Object storage as a source of bytes, through fsspec.

A remote root such as `s3://bucket/photos` is written as the path `s3:/bucket/photos`, because paths hold no double
slash; only this module makes addresses of such paths.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from img2img.errors import UserError

SCHEMES = {"s3": "s3", "gs": "gs"}
"""Scheme of addresses, and the extra that brings its client."""
_REMOTE = re.compile(rf"({'|'.join(SCHEMES)}):/+(?=[^/])")


def remote_root(address: str) -> Path | None:
    """Returns the path that stands for an address, or None for a folder's name.

    Raises:
        UserError: If the address is of a kind that is not read.
    """
    if "://" not in address:
        return None
    if not _REMOTE.match(address):
        known = ", ".join(f"{scheme}://" for scheme in SCHEMES)
        raise UserError(f"{address}: images are read from folders and from {known}")
    return Path(_REMOTE.sub(r"\1:/", address))


def is_remote(path: Path) -> bool:
    """Returns whether a path stands for an address."""
    return path.parts[:1] != () and path.parts[0].removesuffix(":") in SCHEMES and path.parts[0].endswith(":")


def address_of(path: Path) -> str:
    """Returns the address that a path stands for."""
    return _REMOTE.sub(r"\1://", path.as_posix())


def remote_range(path: Path, begin: int, length: int) -> bytes:
    """Returns bytes of a remote file.

    Raises:
        UserError: If they are out of reach.
    """
    try:
        data: bytes = _files(path).cat_file(address_of(path), start=begin, end=begin + length)
    except Exception as error:  # of the client's library, of many kinds
        raise _out_of_reach(path, error) from error
    return data


def remote_file(path: Path) -> bytes:
    """Returns the bytes of a remote file.

    Raises:
        FileNotFoundError: If there is none.
        UserError: If it is out of reach.
    """
    files = _files(path)
    try:
        data: bytes = files.cat_file(address_of(path))
    except FileNotFoundError:
        raise
    except Exception as error:
        raise _out_of_reach(path, error) from error
    return data


def upload(file: Path, path: Path) -> None:
    """Copies a file to object storage.

    Raises:
        UserError: If that fails.
    """
    files = _files(path)
    try:
        files.put_file(str(file), address_of(path))
    except Exception as error:
        raise _out_of_reach(path, error) from error


def exists(path: Path) -> bool:
    """Returns whether a remote file exists.

    Raises:
        UserError: If the storage is out of reach.
    """
    files = _files(path)
    try:
        return bool(files.exists(address_of(path)))
    except Exception as error:
        raise _out_of_reach(path, error) from error


def _files(path: Path) -> Any:
    """Returns fsspec's file system, which it makes once for each process."""
    import fsspec

    scheme = path.parts[0].removesuffix(":")
    try:
        return fsspec.filesystem(scheme, use_listings_cache=False)
    except ImportError as error:
        install = f"pip install '.[{SCHEMES[scheme]}]' in a clone of img2img"
        raise UserError(f"{scheme}:// needs a client: {install}") from error
    except Exception as error:  # credentials that cannot be found
        raise _out_of_reach(path, error) from error


def _out_of_reach(path: Path, error: Exception) -> UserError:
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return UserError(f"cannot reach {address_of(path)}: {lines[0]}; check the address, the credentials and the network")
