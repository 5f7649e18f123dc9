"""Steps, weights and validations that would spoil a run: skipped or the end of it, never kept and never "Done"."""

from __future__ import annotations

import json
import os
import shlex
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch.plugins import MixedPrecision
from torch import nn

from img2img.callbacks import AveragedWeights, DivergenceGuard, divergence
from img2img.cli import main
from img2img.data import CorruptedPairs
from img2img.tasks import Restoration
from img2img.trainer import Trainer
from tests.commands.test_distributed import run
from tests.conftest import TINY

EVERY_STEP = "--last.every_n_steps=1"


@pytest.fixture
def poison():
    """Returns the flag that spoils a run; the class lies beside the config, as a user's own would."""
    shutil.copy(Path(__file__).parent / "poison.py", "poison.py")
    return lambda **what: "--trainer.callbacks=" + json.dumps([{"class_path": "poison.Poison", "init_args": what}])


def kept(number: int = 0, name: str = "last") -> dict[str, Any]:
    return torch.load(f"runs/denoise/{number}/{name}.ckpt", weights_only=True)


def finite(number: int = 0, name: str = "last") -> bool:
    states = [kept(number, name)[key] for key in ("state_dict", "current_model_state")]
    return all(value.isfinite().all() for state in states for value in state.values())


def flat(tree: Any) -> list[Any]:
    """Returns the leaves of nested data."""
    children = tree.values() if isinstance(tree, dict) else tree if isinstance(tree, list | tuple) else None
    return [tree] if children is None else [leaf for child in children for leaf in flat(child)]


def equal(one: Any, other: Any) -> bool:
    pairs = list(zip(flat(one), flat(other), strict=True))
    return all(torch.equal(a, b) if isinstance(a, torch.Tensor) else a == b for a, b in pairs)


def ends(code: int, program, *flags: str) -> None:
    with pytest.raises(SystemExit) as stop:
        program("fit", *flags)
    assert stop.value.code == code


@pytest.mark.parametrize("optimizer", ["MuonAdamW", pytest.param("null", marks=pytest.mark.slow), "torch.optim.SGD"])
def test_a_step_with_a_bad_sample_is_skipped_and_changes_nothing(optimizer, program, poison, capsys):
    flags = (EVERY_STEP, f"--model.optimizer={optimizer}", *(["--model.optimizer.lr=0.1"] * ("SGD" in optimizer)))
    program("fit", "--trainer.max_steps=2", *flags)
    program("fit", "--trainer.max_steps=3", *flags, poison(samples=[5]))
    said = capsys.readouterr().out
    before, after = kept(0), kept(1)
    for part in ("state_dict", "current_model_state", "averaging_state"):
        assert equal(before[part], after[part]), part
    assert equal(before["optimizer_states"][0]["state"], after["optimizer_states"][0]["state"])
    assert after["global_step"] == 3
    assert said.count("skipped step 3: the loss of samples 5 is nan; to see them: ") == 1
    assert "1 of 3 steps were skipped" in said
    assert "Done" in said.splitlines()[-1]


def test_the_printed_command_shows_the_samples(program, poison, capsys):
    program("fit", "--trainer.max_steps=2", poison(samples=[2]), "--data.batch_size=4")
    command = capsys.readouterr().out.partition("to see them: img2img ")[2].partition("\n")[0]
    main(shlex.split(command))
    assert "Pairs 2 of config.yaml" in capsys.readouterr().out
    assert Path("samples.png").is_file()


def test_a_run_goes_on_after_skipped_steps_and_counts_accumulated_batches(program, poison, capsys):
    program("fit", "--trainer.max_steps=6", "--trainer.accumulate_grad_batches=2", poison(samples=[4, 6, 18]))
    said = capsys.readouterr().out
    assert "skipped step 2: the loss of samples 4 6 is nan" in said
    assert "skipped step 5: the loss of samples 18 is nan" in said
    assert "2 of 6 steps" in said
    averaged = kept()["averaging_state"]["n_averaged"]
    assert averaged == 4
    assert finite()
    assert finite(name="best")


def test_stop_ends_the_run_at_the_first_bad_step(program, poison, capsys):
    stop = "--divergence.action=stop"
    ends(1, program, "--trainer.max_steps=9", EVERY_STEP, stop, poison(samples=[5, 8]), "--data.batch_size=4")
    out, err = capsys.readouterr()
    assert "Done" not in out
    assert err.startswith("img2img fit: error: training stopped: step 2: the loss of samples 5 is nan; go on with ")
    assert "--ckpt_path last and --divergence.action skip; to see them: img2img preview samples.png --config" in err
    assert err.count("\n") == 1
    assert kept()["global_step"] == 1
    program("fit", "--trainer.max_steps=4", "--ckpt_path=last", poison(samples=[5, 8]), "--data.batch_size=4")
    assert "2 of 4 steps were skipped" in capsys.readouterr().out


def test_a_diverged_run_is_not_done_and_keeps_only_finite_weights(program, capsys):
    wild = ("--model.optimizer=null", "--model.lr=1e10", "--model.warmup_steps=0", EVERY_STEP)
    ends(1, program, "--trainer.max_steps=20", *wild)
    out, err = capsys.readouterr()
    assert "Done" not in out
    assert "10 bad steps in a row" in err
    assert "--model.lr" in err
    assert finite()


def test_weights_that_are_not_finite_are_never_saved(program, poison, capsys):
    ends(1, program, "--trainer.max_steps=9", EVERY_STEP, poison(after_step=4))
    out, err = capsys.readouterr()
    assert "Done" not in out
    assert "is not finite after step 4, which is not saved; go on with --ckpt_path last" in err
    assert kept()["global_step"] == 3
    assert finite()


@pytest.mark.parametrize("steps", [2, 4])
def test_a_validation_that_is_not_a_number_ends_the_run(steps, program, poison, capsys):
    ends(1, program, f"--trainer.max_steps={steps}", "--trainer.val_check_interval=2", poison(validation=True))
    out, err = capsys.readouterr()
    assert "Done" not in out
    assert "the validation at step 2 gives a val/" in err
    assert not Path("runs/denoise/0/best.ckpt").exists()


def test_spikes_are_caught_alike_after_resuming(program, poison, capsys, monkeypatch):
    monkeypatch.setattr(divergence, "RECENT", 4)
    flags = ("--trainer.val_check_interval=4", "--last.every_n_steps=4", poison(samples=[9, 15], value=40.0))
    program("fit", "--trainer.max_steps=10", *flags)
    said = capsys.readouterr().out
    program("fit", "--trainer.max_steps=4", *flags)
    program("fit", "--trainer.max_steps=10", *flags, "--ckpt_path=last")
    assert "skipped step 5: the loss of samples 8-9 is " in said
    assert "skipped step 8: the loss of samples 14-15 is " in said
    assert [line for line in said.splitlines() if "skipped" in line] == [
        line.replace("denoise/1", "denoise/0") for line in capsys.readouterr().out.splitlines() if "skipped" in line
    ]
    one, other = kept(0), kept(1)
    assert equal(one["current_model_state"], other["current_model_state"])
    key = next(key for key in one["callbacks"] if "DivergenceGuard" in key)
    assert one["callbacks"][key] == other["callbacks"][key]


def guarded(losses: list[float], **options: Any) -> list[int]:
    """Returns which of these losses a guard calls wrong; as norms of gradients they are judged alike."""
    found: dict[str, list[int]] = {"loss": [], "gradient": []}
    for what, steps in found.items():
        guard = DivergenceGuard(**options)
        for i, value in enumerate(losses):
            loss, norm = (value, 0.5) if what == "loss" else (0.5, value)
            wrong = guard._wrong(loss, norm)
            if wrong is None:
                guard._losses_before.note(loss)
                guard._norms_before.note(norm)
            else:
                assert wrong[0] == what
                steps.append(i)
    assert found["loss"] == found["gradient"]
    return found["loss"]


def test_what_counts_as_a_spike():
    generator = torch.Generator().manual_seed(0)
    usual = (0.02 + 0.004 * torch.randn(1000, generator=generator)).abs().tolist()
    start = [0.1 - 0.0008 * i for i in range(100)]
    assert guarded([*start, *usual]) == []
    assert guarded([*start, *usual, 0.5, *usual[:3], 0.05]) == [1100]
    assert guarded([*start, *usual, 0.5], spike=None) == []
    assert guarded([*usual[:50], 5.0]) == [], "too few to compare with"
    assert guarded([*start, *usual, 0.5, 0.5, 0.5]) == [1100, 1101, 1102], "a spike does not become usual"
    nats = (-9000 + 300 * torch.randn(300, generator=generator)).tolist()
    assert guarded([*nats, 20000.0]) == [300]
    assert guarded([-3.0] * 100 + [-2.9]) == [], "constant losses"
    assert guarded([1.0] * 100 + [float("inf"), float("nan")], spike=None) == [100, 101]
    tails = torch.exp(1.5 * torch.randn(5000, generator=generator)).tolist()  # a median of 1, and up to hundreds
    assert guarded(tails) == []


@pytest.mark.parametrize("wrong", [{"action": "ignore"}, {"spike": 1.0}])
def test_wrong_options_are_refused(wrong):
    with pytest.raises(ValueError, match="divergence"):
        DivergenceGuard(**wrong)


def fit(photos: Path, network: nn.Module, samples: list[int], **options: Any) -> Trainer:
    from tests.callbacks.poison import Poison

    data = CorruptedPairs(str(photos), crop_size=16, batch_size=2, corruption=[])
    guards = [AveragedWeights(), DivergenceGuard()]
    trainer = Trainer(
        callbacks=[Poison(samples), *guards],
        max_steps=6,
        logger=False,
        enable_checkpointing=False,
        limit_val_batches=0,
        accelerator="cpu",
        gradient_clip_val=1.0,
        enable_progress_bar=False,
        **options,
    )
    trainer.fit(Restoration(network, optimizer=torch.optim.SGD), data)
    return trainer


def test_running_means_of_a_skipped_step_are_undone(photos):
    norm = nn.BatchNorm2d(3)
    fit(photos, nn.Sequential(norm, nn.Conv2d(3, 3, 3, padding=1)), [5], precision="32-true")
    assert norm.running_mean.isfinite().all()
    assert norm.num_batches_tracked == 5


@pytest.mark.parametrize(("scale", "skipped"), [(2.0**10, 1), (2.0**127, 1)])
def test_the_scaler_of_16_mixed_keeps_its_own_handling(scale, skipped, photos, capsys):
    scaler = torch.amp.GradScaler("cpu", init_scale=scale)
    network = nn.Conv2d(3, 3, 3, padding=1)
    trainer = fit(photos, network, [5], precision=None, plugins=MixedPrecision("16-mixed", "cpu", scaler=scaler))
    said = capsys.readouterr().out
    assert said.count("skipped step") == skipped
    assert "skipped step 3" in said
    assert all(weight.isfinite().all() for weight in network.parameters())
    assert scaler.get_scale() < scale, "the scaler lowered its factor at the bad step, and where gradients overflowed"
    assert trainer.global_step == 6


@pytest.mark.slow
@pytest.mark.parametrize("sample", [5, 6])
def test_two_processes_skip_the_same_steps_as_one(sample, program, poison, photos, capsys):
    flags = ["--trainer.precision=64-true", "--trainer.max_steps=3", poison(samples=[sample])]
    program("fit", *flags, "--data.batch_size=4")
    assert f"skipped step 2: the loss of samples {sample} is nan" in capsys.readouterr().out
    os.environ.pop("IMG2IMG_RUN")
    two = ["--trainer.strategy=ddp", "--trainer.devices=2"]
    out = run("-m", "img2img", "fit", "--config", "denoise.yaml", *TINY, f"--data.root={photos}", *flags, *two)
    assert out.count(f"skipped step 2: the loss of samples {sample} is nan") == 1
    one, both = kept(0)["current_model_state"], kept(1)["current_model_state"]
    assert max((one[k] - both[k]).abs().max() for k in one) < 1e-12
    assert equal(kept(0)["averaging_state"], kept(1)["averaging_state"])


@pytest.mark.slow
def test_two_processes_stop_together(poison, photos):
    flags = [*TINY, f"--data.root={photos}", "--trainer.max_steps=3", "--trainer.strategy=ddp", "--trainer.devices=2"]
    bad = [poison(samples=[5]), "--divergence.action=stop"]
    out = run("-m", "img2img", "fit", "--config", "denoise.yaml", *flags, *bad, code=1)
    assert out.count("training stopped: step 2: the loss of samples 5 is nan") == 1
    assert "Traceback" not in out
    assert "Done" not in out


@pytest.mark.parametrize(
    ("numbers", "said"), [([], ""), ([7], "7"), ([3, 1, 2, 9, 9], "1-3 9"), ([0, 5, 6], "0 5-6"), ([4, 6], "4 6")]
)
def test_numbers_are_written_as_ranges(numbers, said):
    assert divergence.ranges(numbers) == said
