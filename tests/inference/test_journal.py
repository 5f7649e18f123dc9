"""Journals with damaged lines: each is named and ignored, and the file is done again."""

from __future__ import annotations

import json
from dataclasses import asdict

import pytest

from img2img.inference.journal import Journal, Record

GOOD = {**asdict(Record("a.png", "in/a.png", "restored")), "at": 2}


def line(**changes) -> str:
    return json.dumps(GOOD | changes)


@pytest.mark.parametrize(
    "damaged",
    [
        "[1, 2]}",
        '"text"}',
        "{}",
        '{"at": 3}',
        '{"at": "soon", "begun": "a.png"}',
        '{"at": null, "begun": "a.png"}',
        '{"at": 3, "begun": 7}',
        '{"at": 3, "begun": ["a.png"]}',
        line(name=["a.png"]),
        line(name=None),
        line(status="done"),
        line(status=[]),
        line(bytes="many"),
        line(time=1.5),
        line(seconds="long"),
        line(seconds=float("nan")),
        line(losses="alpha"),
        line(losses=[1]),
        line(scores=[]),
        line(scores={"PSNR": "high"}),
        line(at=True),
        line(more=1),
        "[" * 100_000 + "}",
        "\x00\x00}",
    ],
)
def test_damaged_lines_are_ignored_with_a_warning(tmp_path, damaged):
    journal = Journal(tmp_path, {})
    journal.begin(0, fresh=True)
    good = json.dumps({**asdict(Record("b.png", "in/b.png", "restored")), "at": 1})
    (tmp_path / ".img2img/journal-0.jsonl").write_text(f"{good}\n{damaged}\n")
    with pytest.warns(UserWarning, match=r"1 damaged line\(s\), which are ignored"):
        records, begun = journal.records()
    assert (set(records), begun) == ({"b.png"}, set())
    journal.release()


@pytest.mark.parametrize("text", ["[]", "{", "true", "-5", '"2GB"', "[" * 100_000])
def test_damaged_notes_of_a_run_mean_that_there_was_none(tmp_path, text):
    journal = Journal(tmp_path, {"model": "a"})
    for name in ("run.json", "memory.json"):
        (tmp_path / ".img2img").mkdir(exist_ok=True)
        (tmp_path / ".img2img" / name).write_text(text)
    assert not journal.is_of_this_run()
    assert journal.memory() is None
