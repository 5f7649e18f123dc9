import pytest

from img2img.errors import UserError
from img2img.training.messages import essence
from img2img.training.runs import claim_run, newest_checkpoint, run_name, runs_of


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


def test_runs_are_numbered_by_config(tmp_path, monkeypatch):
    monkeypatch.delenv("IMG2IMG_RUN", raising=False)
    folders = [claim_run(tmp_path, "denoise", first_process=True) for _ in range(12)]
    assert [folder.name for folder in runs_of(tmp_path, "denoise")] == [str(n) for n in range(12)]
    assert claim_run(tmp_path, "denoise", first_process=False) == folders[-1]
    assert run_name(tmp_path / "x" / "faded.yaml") == "faded"
    assert run_name(folders[3] / "config.yaml") == "denoise"


def test_the_newest_run_that_has_a_checkpoint_is_resumed(tmp_path):
    for number in (2, 10):
        (tmp_path / "denoise" / str(number)).mkdir(parents=True)
    (tmp_path / "denoise" / "2" / "last.ckpt").touch()
    assert newest_checkpoint(tmp_path, "denoise", "last").parent.name == "2"
    with pytest.raises(UserError, match=r"no best\.ckpt"):
        newest_checkpoint(tmp_path, "denoise", "best")
