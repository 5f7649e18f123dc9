"""Lost processes are told from other errors; networks are divided block by block."""

from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
import time
from datetime import timedelta

import pytest
import torch
from lightning.pytorch.plugins.environments import LightningEnvironment
from lightning.pytorch.strategies import DDPStrategy
from lightning.pytorch.strategies.launchers import _SubprocessScriptLauncher
from torch import distributed, nn

from img2img.distributed import (
    FullyShardedStrategy,
    Launcher,
    _blocks,
    alike,
    is_loss,
    loss,
    part_like,
    waiting_for_all,
    whole,
)
from img2img.networks import RestorationUNet
from img2img.trainer import Trainer

GLOO = (
    "[/src/gloo/transport/tcp/pair.cc:545] Read error [10.0.0.2]:39106: Connection reset by peer. This is typically "
    "caused by a remote worker hanging."
)


@pytest.mark.parametrize(
    ("error", "is_one"),
    [
        (RuntimeError(GLOO), True),
        (distributed.DistNetworkError("The client socket has timed out after 60000ms"), True),
        (RuntimeError("mat1 and mat2 shapes cannot be multiplied"), False),
        (ValueError(GLOO), False),
    ],
)
def test_lost_processes_are_told_from_other_errors(error, is_one):
    assert is_loss(error) == is_one


def test_the_line_about_a_lost_process_says_why_and_what_to_do():
    line = str(loss(RuntimeError(GLOO), timedelta(seconds=20)))
    assert "did not answer for 20 s" in line
    assert "(Read error [10.0.0.2]:39106: Connection reset by peer)" in line
    assert "--ckpt_path last" in line
    assert "\n" not in line


def test_the_timeout_reaches_the_strategy():
    def trainer(**arguments) -> Trainer:
        return Trainer(accelerator="cpu", devices=2, logger=False, **arguments)

    assert trainer(strategy="ddp", timeout=20).strategy._timeout == timedelta(seconds=20)
    assert trainer(strategy="ddp").strategy._timeout == DDPStrategy()._timeout
    divided = trainer(strategy="fsdp", timeout=20).strategy
    assert isinstance(divided, FullyShardedStrategy)
    assert divided._timeout == timedelta(seconds=20)
    Trainer(accelerator="cpu", devices=1, logger=False, timeout=20)  # nobody to wait for


def test_the_launcher_names_a_killed_process_and_lets_this_one_go_on(capsys):
    launcher = Launcher(_SubprocessScriptLauncher(LightningEnvironment(), 3, 1), lambda: True)
    commands = ("import os; os.kill(os.getpid(), 9)", "raise SystemExit(3)")
    launcher.procs = [subprocess.Popen([sys.executable, "-c", command]) for command in commands]
    launcher._watch()
    assert capsys.readouterr().err == (
        "img2img: process 1 of 3 was killed (SIGKILL, perhaps for lack of memory)\n"  # the other one spoke for itself
    )
    assert launcher.gone() == {1, 2}


def test_the_launcher_says_nothing_of_processes_that_it_ends_itself(capsys):
    launcher = Launcher(_SubprocessScriptLauncher(LightningEnvironment(), 2, 1), lambda: True)
    launcher.procs = [subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])]
    began = time.monotonic()
    launcher.end_others()
    launcher._watch()
    assert time.monotonic() - began < 30
    assert capsys.readouterr().err == ""


def _prepare(rank: int, store: str, seconds: float, results: multiprocessing.SimpleQueue, stops: bool) -> None:
    distributed.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=2)
    try:
        with waiting_for_all(timedelta(seconds=3)):
            if rank == 1 and stops:
                os.kill(os.getpid(), signal.SIGSTOP)
            time.sleep(seconds * (rank == 0))
        results.put("ready")
    except RuntimeError as error:
        results.put(str(loss(error, timedelta(seconds=3))) if is_loss(error) else f"another error: {error}")


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork")
@pytest.mark.parametrize(
    ("seconds", "stops"), [(5.0, False), (1.0, True), pytest.param(5.0, True, marks=pytest.mark.slow)]
)
def test_processes_wait_for_one_that_works_but_not_for_one_that_shows_no_sign_of_life(tmp_path, seconds, stops):
    context = multiprocessing.get_context("fork")
    results = context.SimpleQueue()
    two = [
        context.Process(target=_prepare, args=(rank, str(tmp_path / "store"), seconds, results, stops), daemon=True)
        for rank in (0, 1)
    ]
    for process in two:
        process.start()
    two[0].join(40)
    assert two[0].exitcode == 0, "it waits for ever"
    two[1].join(0 if stops else 20)
    two[1].kill()
    said = [results.get() for _ in two[: 1 if stops else 2]]
    if stops:
        assert "did not answer for 3 s" in said[0]
    else:
        assert said == ["ready", "ready"]


def test_networks_are_divided_into_modules_that_they_call():
    network = RestorationUNet(channels=[8, 8], blocks=2)
    called: set[nn.Module] = set()
    for module in network.modules():
        module.register_forward_pre_hook(lambda module, inputs: called.add(module))
    network(torch.rand(1, 3, 16, 16))
    blocks = _blocks(network)
    assert set(blocks) <= called
    covered = {id(weight) for block in blocks for weight in block.parameters()}
    assert covered == {id(weight) for weight in network.parameters()}


def test_whole_tensors_stay_as_they_are():
    tensor, other = torch.rand(2, 3), torch.rand(2, 3)
    assert whole(tensor) is tensor
    assert part_like(tensor, other) is tensor
    assert [(own[0] is tensor, theirs[0] is other) for own, theirs in alike([tensor], [other])] == [(True, True)]
