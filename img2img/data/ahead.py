"""A loader that prepares the next batch in a thread, for machines whose cores the network needs."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from torch.utils.data import DataLoader


class AheadLoader(DataLoader[Any]):
    """A loader without worker processes that prepares one batch ahead, while the network works on the one before.

    A step of the network has parts that keep one core busy: the optimizer, averaging, Python itself. The other core
    makes samples meanwhile. Samples are drawn by their own generators, so the thread changes no result.
    """

    def __iter__(self) -> Iterator[Any]:  # type: ignore[override]
        """Yields batches; an error in preparing one is raised where it is asked for."""
        batches = super().__iter__()
        with ThreadPoolExecutor(1, "img2img-data") as thread:
            following = thread.submit(next, batches, None)
            while (batch := following.result()) is not None:
                following = thread.submit(next, batches, None)
                yield batch
