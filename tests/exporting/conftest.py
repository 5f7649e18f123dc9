"""Exports are quick."""

from __future__ import annotations

import pytest

from tests.exporting.written import write_once


@pytest.fixture(autouse=True)
def _written_once(monkeypatch: pytest.MonkeyPatch) -> None:
    write_once(monkeypatch)
