from __future__ import annotations

import threading
import time
from pathlib import Path

import pytest
import torch
from torch.utils.data import DataLoader, Dataset

from img2img.data import CorruptedPairs
from img2img.data.ahead import AheadLoader
from img2img.data.pairs import collate
from img2img.data.stream import StreamSampler


class Numbers(Dataset[int]):
    """The numbers below 10; remembers which were asked for, and fails at one of them."""

    def __init__(self, fails_at: int = -1) -> None:
        self.asked: list[int] = []
        self.fails_at = fails_at

    def __len__(self) -> int:
        return 10

    def __getitem__(self, n: int) -> int:
        self.asked.append(n)
        if n == self.fails_at:
            raise ValueError(f"number {n} is broken")
        return n


def test_training_batches_are_those_of_a_plain_loader(photos: Path) -> None:
    data = CorruptedPairs(root=str(photos), crop_size=24, batch_size=2)
    data.setup("fit")
    plain = DataLoader(data.training_pairs(), 2, sampler=StreamSampler(lambda: 0, 4, 2, 0, 1), collate_fn=collate)
    ahead = AheadLoader(data.training_pairs(), 2, sampler=StreamSampler(lambda: 0, 4, 2, 0, 1), collate_fn=collate)
    batches = list(zip(plain, ahead, strict=True))
    assert len(batches) == 4
    for one, other in batches:
        assert one["input"].equal(other["input"])
        assert one["n"].equal(other["n"])


def test_a_validation_between_two_training_batches_changes_neither(photos: Path) -> None:
    data = CorruptedPairs(root=str(photos), crop_size=24, batch_size=2, share=0.3, val_crop_size=48)
    data.setup("fit")
    data.evaluation = {"corrupted": data.corruption}  # the same objects as in training
    alone = [batch["input"] for batch in data.val_dataloader()]
    expected = [batch["input"] for batch in DataLoader(data.training_pairs(), 2, sampler=range(40), collate_fn=collate)]
    for batch, want in zip(
        AheadLoader(data.training_pairs(), 2, sampler=range(40), collate_fn=collate), expected, strict=True
    ):
        assert batch["input"].equal(want)
        assert all(one["input"].equal(other) for one, other in zip(data.val_dataloader(), alone, strict=True))


def test_one_batch_is_prepared_while_another_is_used() -> None:
    numbers = Numbers()
    batches = iter(AheadLoader(numbers, 2))
    assert next(batches).tolist() == [0, 1]
    deadline = time.monotonic() + 10
    while len(numbers.asked) < 4 and time.monotonic() < deadline:
        time.sleep(0.01)
    assert numbers.asked == [0, 1, 2, 3]


def test_an_error_is_raised_where_its_batch_is_asked_for() -> None:
    batches = iter(AheadLoader(Numbers(fails_at=3), 2))
    assert next(batches).tolist() == [0, 1]
    with pytest.raises(ValueError, match="number 3 is broken"):
        next(batches)


def test_training_that_ends_early_leaves_no_thread() -> None:
    before = threading.active_count()
    batches = iter(AheadLoader(Numbers(), 2))
    assert torch.equal(next(batches), torch.tensor([0, 1]))
    del batches
    assert threading.active_count() == before
