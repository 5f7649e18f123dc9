import pytest
from torch import nn

import img2img.networks  # noqa: F401  whose names are suggested
from img2img.training.messages import essence, metrics_table
from img2img.training.runs import claim_run, run_name, runs_of


def test_a_nested_failure_is_one_line_with_the_whole_option():
    inner = essence(
        'Parser key "network":\n  Errors:\n    - Expected a dot import path string: Unet\n'
        "    - Expected a <class 'NoneType'>"
    )
    outer = essence(f'Parser key "model":\n  Subtypes: [x]\n  Errors:\n    - {inner}\n  Given value type: y')
    assert outer.startswith("--model.network: there is no class Unet")
    assert "\n" not in outer


def test_types_are_named_plainly():
    assert essence("Parser key \"trainer.max_steps\":\n  Expected a <class 'int'>. Got value: x") == (
        "--trainer.max_steps: expected int, not x"
    )


@pytest.mark.parametrize(("name", "meant"), [("UNet", "InpaintingUNet or RestorationUNet"), ("MseLoss", "MSELoss")])
def test_a_part_of_our_names_suggests_them_and_else_the_nearest(name, meant):
    message = essence(f'Parser key "model.network":\n  Expected a dot import path string: {name}', [nn.Module])
    assert message == f"--model.network: there is no class {name}; did you mean {meant}?"


def test_metrics_are_rounded_and_aligned():
    lines = metrics_table("test", {"test/psnr": 31.28123456, "test/psnr/sigma15": 6.5, "test/loss": 0.00001234})
    assert lines.splitlines() == [
        "Test metric",
        "test/psnr             31.2812",
        "test/psnr/sigma15      6.5000",
        "test/loss             1.2e-05",
    ]


def test_runs_are_numbered_by_config(tmp_path, monkeypatch):
    monkeypatch.delenv("IMG2IMG_RUN", raising=False)
    folders = [claim_run(tmp_path, "denoise", first_process=True) for _ in range(12)]
    assert [folder.name for folder in runs_of(tmp_path, "denoise")] == [str(n) for n in range(12)]
    assert claim_run(tmp_path, "denoise", first_process=False) == folders[-1]
    assert run_name(tmp_path / "x" / "faded.yaml") == "faded"
    assert run_name(folders[3] / "config.yaml") == "denoise"
