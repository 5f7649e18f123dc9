"""A run continues from a state that fits it; garbage deep within one ends in a line, before anything trains."""

from __future__ import annotations

import copy
import os
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from img2img.resuming import Misfit, check, check_counts, check_optimizer
from img2img.tasks.muon import MuonAdamW

LOOP = "loops/fit_loop/epoch_loop"
PROGRESS = f"{LOOP}.batch_progress"
GARBAGE: list[tuple[str, Any]] = [
    ("optimizer_states", []),
    ("optimizer_states", [[1, 2]]),
    ("optimizer_states/0/state/0", "x"),
    ("optimizer_states/0/state/0", {"step": "many"}),
    ("optimizer_states/0/state/1/momentum", torch.zeros(2, 2)),
    ("optimizer_states/0/param_groups/0/lr", {"a": 1}),
    ("lr_schedulers/0/step", 5),
    ("lr_schedulers/0/last_epoch", "x"),
    (f"{PROGRESS}/total", {"ready": "x"}),
    (f"{PROGRESS}/increment_ready", 5),
    (f"{PROGRESS}/current/ready", -7),
    (f"{LOOP}.automatic_optimization.optim_progress/optimizer/step/total", [1]),
    ("callbacks", [1]),
    ("callbacks/DivergenceGuard", {"recent": [1.0]}),
    ("callbacks/DivergenceGuard/recent", ["x"]),
    ("current_model_state", {"a": 1}),
    ("averaging_state", []),
    ("state_dict/network.head.weight", 3),
    ("CorruptedPairs/next_sample", "x"),
    ("img2img/optimizer", ["os.system"]),
    ("pytorch-lightning_version", [1]),
]
"""Parts of a state, by their keys, and what takes their place."""


def put(contents: Any, place: str, value: Any) -> None:
    *way, last = (int(key) if key.isdigit() else key for key in place.split("/"))
    for key in way:
        contents = contents[key]
    assert not isinstance(contents, list) or last < len(contents), f"no such part: {place}"
    contents[last] = value


@pytest.mark.parametrize("garbage", [GARBAGE[::4], pytest.param(GARBAGE, marks=pytest.mark.slow)], ids=["some", "all"])
def test_garbage_deep_in_a_state_ends_in_one_line_before_anything_trains(program, capsys, garbage):
    program("fit", "--trainer.max_steps=2")
    whole = torch.load("runs/denoise/0/last.ckpt", weights_only=True)
    capsys.readouterr()
    said = {}
    for place, value in garbage:
        spoilt = copy.deepcopy(whole)
        put(spoilt, place, value)
        torch.save(spoilt, "spoilt.ckpt")
        os.environ.pop("IMG2IMG_RUN", None)
        with pytest.raises(SystemExit) as ended:
            program("fit", "--trainer.max_steps=4", "--ckpt_path=spoilt.ckpt")
        lines = [line for line in capsys.readouterr().err.splitlines() if "error" in line or "Traceback" in line]
        said[place, str(value)] = (ended.value.code, len(lines), "spoilt.ckpt" in lines[0])
    assert set(said.values()) == {(2, 1, True)}, said
    assert not list(Path("runs").glob("denoise/[1-9]*/*.ckpt"))
    os.environ.pop("IMG2IMG_RUN", None)
    torch.save(whole, "whole.ckpt")
    program("fit", "--trainer.max_steps=4", "--ckpt_path=whole.ckpt")
    assert "Done" in capsys.readouterr().out


def test_the_line_names_the_part_and_what_would_be_right(program, capsys):
    program("fit", "--trainer.max_steps=2")
    spoilt = torch.load("runs/denoise/0/last.ckpt", weights_only=True)
    put(spoilt, f"{PROGRESS}/total/completed", "x")
    torch.save(spoilt, "spoilt.ckpt")
    os.environ.pop("IMG2IMG_RUN", None)
    with pytest.raises(SystemExit):
        program("fit", "--trainer.max_steps=4", "--ckpt_path=spoilt.ckpt")
    last = capsys.readouterr().err.splitlines()[-1]
    assert "batch_progress.total.completed is 'x'" in last
    assert "--model.weights spoilt.ckpt starts a new run from its weights" in last


def test_a_best_checkpoint_with_garbage_gives_way_to_a_new_one(program, capsys):
    program("fit", "--trainer.max_steps=2")
    best = Path("runs/denoise/0/best.ckpt")
    spoilt = torch.load(best, weights_only=True)
    name = next(key for key in spoilt["callbacks"] if key.startswith("BestCheckpoint"))
    for number, garbage in enumerate(([1], {name: 3}, {name: {"best_model_score": "x"}})):
        torch.save(spoilt | {"callbacks": garbage}, best)
        os.environ.pop("IMG2IMG_RUN", None)
        program("fit", f"--trainer.max_steps={4 + 2 * number}", "--ckpt_path=last")
        assert isinstance(torch.load(best, weights_only=True)["callbacks"][name]["best_model_score"], torch.Tensor)


def trained(kind: Any, **settings: Any) -> tuple[nn.Module, torch.optim.Optimizer]:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(1, 4, 3), nn.Conv2d(4, 4, 3), nn.Conv2d(4, 1, 3))
    optimizer = kind(network.parameters(), **settings)
    for _ in range(3):
        network(torch.rand(1, 1, 9, 9)).sum().backward()
        optimizer.step()
    return network, optimizer


OPTIMIZERS = [
    (torch.optim.AdamW, {}),
    (torch.optim.AdamW, {"amsgrad": True, "foreach": True}),
    (torch.optim.AdamW, {"fused": True}),
    (torch.optim.SGD, {"lr": 0.1, "momentum": 0.9}),
    (torch.optim.RMSprop, {"centered": True}),
    (torch.optim.Adafactor, {}),  # states of shapes of their own
    (MuonAdamW, {}),
]


@pytest.mark.parametrize(("kind", "settings"), OPTIMIZERS)
def test_an_optimizers_own_state_fits_and_is_left_alone(kind, settings):
    _, optimizer = trained(kind, **settings)
    state = copy.deepcopy(optimizer.state_dict())
    network, fresh = trained(kind, **settings)
    fresh.state.clear()
    before = copy.deepcopy(network.state_dict())
    check_optimizer(state, fresh)
    assert not fresh.state
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items())
    flat = [value for part in state["state"].values() for value in part.values() if isinstance(value, torch.Tensor)]
    own = [value for part in optimizer.state_dict()["state"].values() for value in part.values()]
    assert all(torch.equal(one, other) for one, other in zip(flat, own, strict=True))


@pytest.mark.parametrize(("kind", "settings"), OPTIMIZERS)
def test_a_state_of_other_shapes_or_without_a_part_does_not_fit(kind, settings):
    _, optimizer = trained(kind, **settings)
    state = optimizer.state_dict()
    part = state["state"][0]
    name = next(name for name, value in part.items() if isinstance(value, torch.Tensor) and value.numel() > 1)
    for wrong in ({**part, name: torch.zeros(7)}, {**part, name: "x"}):
        with pytest.raises((RuntimeError, TypeError, AttributeError, ValueError)):
            check_optimizer(state | {"state": {**state["state"], 0: wrong}}, optimizer)
    with pytest.raises(Misfit, match="other weights"):
        check_optimizer(state | {"state": {99: part}}, optimizer)


@pytest.mark.parametrize(
    ("saved", "own", "said"),
    [
        ({"a": 1}, {"a": 0.5, "b": 2}, None),
        ({"a": [1, 2, 3]}, {"a": []}, None),
        ({"a": {"x": 1}}, {"a": None}, None),
        ({"a": torch.ones(())}, {"a": 0.5}, None),
        ({"a": [1, [2]]}, {"a": [0, 0]}, r"s\.a\[1\] is a list"),
        ({"a": [1]}, {"a": [0, 0]}, r"s\.a is a list"),
        ({"a": True}, {"a": 1}, "s.a is True"),
        ({"a": 2**60}, {"a": 1}, "s.a is 1152921504606846976"),
        ({"a": torch.ones(2)}, {"a": torch.ones(3)}, r"s\.a is a tensor of \(2,\)"),
        ([], {"a": 1}, "s is a list"),
    ],
)
def test_states_are_compared_by_kind(saved, own, said):
    if said is None:
        check(saved, own, "s")
    else:
        with pytest.raises(Misfit, match=said):
            check(saved, own, "s")


def test_counts_cannot_replace_methods():
    own = {"progress": {"total": {"ready": 0}}, "is_last": False}
    check_counts({"progress": {"total": {"ready": 7}}, "is_last": True}, own, "loop")
    for wrong in ({"ready": -1}, {"ready": 1.5}, {"ready": 1, "reset": 2}):
        with pytest.raises(Misfit, match=r"loop\.progress\.total"):
            check_counts({"progress": {"total": wrong}}, own, "loop")
