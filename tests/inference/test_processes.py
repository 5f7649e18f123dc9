"""Processes of a distributed run see who is alive, done or lost, by files."""

from __future__ import annotations

import threading
import time

import pytest

from img2img.inference import processes
from img2img.inference.processes import Processes


@pytest.fixture
def start(tmp_path, monkeypatch):
    monkeypatch.setattr(processes, "PERIOD", 0.05)
    started = []

    def one(rank: int, run: int = 1, gone=(), on_loss=lambda: None, patience: float = 1.5) -> Processes:
        process = Processes(tmp_path, run, rank, 2, patience, lambda: gone, on_loss)
        started.append(process)
        return process

    yield one
    for process in started:
        process.end(False, 0.0, "")


def test_each_waits_for_the_other_and_learns_what_it_did(start):
    first, second = start(0), start(1)
    threading.Timer(2.0, lambda: second.end(True, 2.5, "the disk is full")).start()  # longer than the patience
    first.end(True, 1.0, "")
    assert [(sign.state, sign.megapixels, sign.stopped) for sign in first.wait()] == [("done", 2.5, "the disk is full")]
    assert first.lost() == []
    assert [sign.megapixels for sign in second.wait()] == [1.0]


def test_one_without_signs_is_lost(start):
    first = start(0)
    first.end(True, 1.0, "")
    began = time.monotonic()
    first.wait()
    assert first.lost() == [1]
    assert time.monotonic() - began < 10


def test_one_that_ended_early_or_is_known_to_be_gone_is_lost_at_once(start):
    first, second = start(0, patience=1000), start(1, patience=1000)
    second.end(False, 0.0, "")
    first.end(True, 1.0, "")
    first.wait()
    assert first.lost() == [1]
    other = start(0, run=2, gone=[1], patience=1000)
    other.end(True, 1.0, "")
    other.wait()
    assert other.lost() == [1]


def test_the_others_learn_that_the_first_one_is_lost(start):
    told = threading.Event()
    start(1, on_loss=told.set)
    assert told.wait(10)


def test_signs_of_an_earlier_start_do_not_count(start):
    start(1).end(True, 1.0, "")
    first = start(0, run=2)
    first.end(True, 1.0, "")
    first.wait()
    assert first.lost() == [1]
