"""One set of small models for all tests of the server."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from img2img.serve.shelf import Shelf
from tests.serve.serving import LocalClient, serving, shelf_of


@pytest.fixture(scope="session")
def shelf(tmp_path_factory: pytest.TempPathFactory) -> Shelf:
    return shelf_of(tmp_path_factory.mktemp("models"))


@pytest.fixture
def client(shelf: Shelf) -> Iterator[LocalClient]:
    """A client of a server with ordinary limits."""
    with serving(shelf, megabytes=5, megapixels=4) as client:
        yield client
