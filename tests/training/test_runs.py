"""Which run goes on, from which of its checkpoints."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from img2img.errors import UserError
from img2img.training import lock
from img2img.training.lock import alone_in
from img2img.training.runs import is_whole, newest_checkpoint, run_to_resume

ROOT = Path("runs")


@pytest.fixture
def run() -> Path:
    """The folder of the newest of two runs, which has all three checkpoints; the older one has `last.ckpt`."""
    for number, names in (("2", ("last",)), ("10", ("last", "last.previous", "best"))):
        folder = ROOT / "denoise" / number
        folder.mkdir(parents=True)
        for name in names:
            torch.save({"step": torch.arange(500)}, folder / f"{name}.ckpt")
    return ROOT / "denoise" / "10"


def damage(path: Path, how: str) -> None:
    data = bytearray(path.read_bytes())
    if how == "flipped":
        data[len(data) // 2] ^= 1
    path.write_bytes(data[: {"empty": 0, "half": len(data) // 2}.get(how, len(data))])


@pytest.mark.parametrize("how", ["empty", "half", "flipped"])
def test_a_damaged_checkpoint_is_named_and_passed_over_for_the_next(run, how):
    assert newest_checkpoint(ROOT, "denoise", "last") == run / "last.ckpt"
    damage(run / "last.ckpt", how)
    with pytest.warns(UserWarning, match=r"10/last\.ckpt is damaged; .*10/last\.previous\.ckpt takes its place"):
        assert newest_checkpoint(ROOT, "denoise", "last") == run / "last.previous.ckpt"
    damage(run / "last.previous.ckpt", how)
    with pytest.warns(UserWarning, match=r"last\.ckpt, .*last\.previous\.ckpt is damaged"):
        assert newest_checkpoint(ROOT, "denoise", "last") == run / "best.ckpt"
    damage(run / "best.ckpt", how)
    with pytest.raises(UserError, match=r"best\.ckpt is damaged, and .*10 has no other checkpoint"):
        newest_checkpoint(ROOT, "denoise", "last")


def test_best_is_only_best(run):
    assert is_whole(run / "best.ckpt")
    damage(run / "best.ckpt", "half")
    with pytest.raises(UserError, match=r"best\.ckpt is damaged"):
        newest_checkpoint(ROOT, "denoise", "best")


def test_an_older_run_is_not_taken_in_silence(run):
    shutil.rmtree(run)
    run.mkdir()
    with pytest.raises(UserError, match=r"newest run, .*10, has no last\.ckpt; .* --ckpt_path runs/denoise/2/last"):
        newest_checkpoint(ROOT, "denoise", "last")
    with pytest.raises(UserError, match=r"no best\.ckpt in any run"):
        newest_checkpoint(ROOT, "denoise", "best")
    assert run_to_resume(ROOT, "denoise", True) == (run, None), "a job script starts in the folder of the killed run"


def test_a_requeued_job_goes_on_in_its_own_run(run, monkeypatch):
    older = run.with_name("2")
    (older / ".owner.json").write_text(json.dumps({"pid": 1, "host": "far", "job": "77"}))
    assert run_to_resume(ROOT, "denoise", True) == (run, run / "last.ckpt")
    monkeypatch.setenv("SLURM_JOB_ID", "77")
    assert run_to_resume(ROOT, "denoise", True) == (older, older / "last.ckpt")
    assert run_to_resume(ROOT, "other", True) == (None, None)
    with pytest.raises(UserError, match="--resume auto"):
        run_to_resume(ROOT, "denoise", False)


HOLD = """
import sys, time
from pathlib import Path
from img2img.training.lock import alone_in
with alone_in(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""


def test_one_process_at_a_time_and_killed_ones_leave_nothing(run):
    half = run / f".{'a' * 32}.part"
    half.touch()
    with subprocess.Popen([sys.executable, "-c", HOLD, run], stdout=subprocess.PIPE, text=True) as other:
        try:
            assert other.stdout.readline() == "held\n"
            assert not half.exists()
            who = f"process {other.pid} on {os.uname().nodename}"
            with pytest.raises(UserError, match=rf"{who} is training in .*10"), alone_in(run):
                pass
        finally:
            other.kill()
    with alone_in(run):
        assert lock.owner_of(run)["pid"] == os.getpid()


def test_a_dead_owner_whose_workers_hold_the_lock_is_waited_for(run, monkeypatch):
    monkeypatch.setattr(lock, "_PATIENCE", 0.3)
    with alone_in(run):
        (run / ".owner.json").write_text(json.dumps({"pid": 2**22 + 1, "host": os.uname().nodename}))
        with pytest.raises(UserError, match="is training in"), alone_in(run):
            pass
