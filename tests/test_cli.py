"""What a person sees who types something, right or wrong."""

import errno
import re
import subprocess
import sys
from pathlib import Path

import pytest

from img2img.cli import COMMANDS, main


def error_of(capsys: pytest.CaptureFixture[str], *argv: str) -> str:
    with pytest.raises(SystemExit) as stop:
        main(argv)
    assert stop.value.code == 2
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 1, f"an error must be one line, not {lines}"
    return lines[0]


def test_the_installed_program_says_its_version():
    program = Path(sys.executable).with_name("img2img")
    assert subprocess.run([program, "--version"], capture_output=True, text=True, check=True).stdout.startswith(
        "img2img "
    )


def test_help_lists_every_command_without_heavy_imports():
    code = "import sys; from img2img.cli import main; main(['--help']); print([m for m in sys.modules if m in HEAVY])"
    code = "HEAVY = {'torch', 'lightning', 'albumentations', 'numpy'}; " + code
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    for command in COMMANDS:
        assert f"\n  {command} " in out
    assert out.endswith("[]\n")


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (["fot"], "did you mean fit?"),
        (["fit"], "give --config"),
        (["fit", "--config", "denois.yaml"], "did you mean denoise.yaml?"),
        (["fit", "--confg", "denoise.yaml"], "did you mean --config?"),
        (["fit", "--config", "denoise.yaml", "--data.root", "nowhere"], "--data.root nowhere does not exist"),
        (
            ["fit", "--config", "denoise.yaml", "--ckpt_path", "last"],
            "no last.ckpt in any run under runs/denoise",
        ),
        (
            ["fit", "--config", "denoise.yaml", "--model.weights", "no.ckpt"],
            "--model.weights no.ckpt does not exist",
        ),
        (["test", "--config", "denoise.yaml"], "test needs a trained model"),
        (
            ["test", "--config", "denoise.yaml", "--ckpt_path", "no.ckpt"],
            "--ckpt_path no.ckpt does not exist",
        ),
        (["restore", "nowhere", "out", "--model", "m.ckpt"], "nowhere does not exist"),
        (["restore", ".", "out", "--model", "m.ckpt"], "is inside the input"),
        (["watch"], "there is no folder runs"),
    ],
)
def test_cheap_errors_say_what_would_be_right_and_import_nothing_heavy(argv, said):
    code = f"import sys; from img2img.cli import main\ntry: main({argv!r})\nfinally: print('torch' in sys.modules)"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert result.returncode == 2
    assert said in result.stderr
    assert len(result.stderr.strip().splitlines()) == 1
    assert result.stdout == "False\n"


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--trainer.max_stepz=3"], "unrecognized arguments: --trainer.max_stepz=3"),
        (["--trainer.max_steps=x"], "--trainer.max_steps: expected int, not x"),
        (
            ["--model.network=RestorationUnet"],
            "--model.network: there is no class RestorationUnet; did you mean RestorationUNet?",
        ),
        (["--model.loss=L1Los"], "did you mean L1Loss?"),
        (["--data.crop_size=-4"], "crop_size must be at least 1, not -4"),
        (["--data.rot=x"], "--data: Option 'rot' is not accepted"),
        (["--trainer.precision=bf15"], "--trainer.precision: auto or"),
    ],
)
def test_wrong_values_are_one_line(flags, said, capsys):
    assert said in error_of(capsys, "fit", "--config", "denoise.yaml", *flags)


def test_a_file_that_is_no_checkpoint(capsys):
    Path("notes.ckpt").write_text("not weights")
    line = error_of(capsys, "test", "--config", "denoise.yaml", "--ckpt_path", "notes.ckpt")
    assert "notes.ckpt is not a" in line


def test_checkpoint_of_another_network(checkpoint, capsys):
    capsys.readouterr()
    line = error_of(capsys, "test", "--config", "denoise.yaml", "--ckpt_path", str(checkpoint))
    assert "do not fit this model" in line


def test_configs_lists_the_shipped_ones(capsys):
    main(["configs"])
    assert re.search(r"^denoise.yaml +Blind colour denoising", capsys.readouterr().out, re.MULTILINE)


def test_own_config_comes_before_the_shipped_one():
    from img2img.training.preflight import find_config

    assert find_config("denoise.yaml").parent.name == "configs"
    Path("denoise.yaml").write_text("# mine\n")
    assert find_config("denoise.yaml").read_text() == "# mine\n"


def test_a_disk_that_cannot_be_written_is_one_line(monkeypatch, photos, capsys):
    def refuse(path, *_, **__):
        raise OSError(errno.EROFS, "Read-only file system", str(path))

    monkeypatch.setattr(Path, "mkdir", refuse)
    with pytest.raises(SystemExit) as stop:
        main(["fit", "--config", "denoise.yaml", f"--data.root={photos}", "--data.cache_gb=0"])
    assert stop.value.code == 2
    lines = [line for line in capsys.readouterr().err.splitlines() if "Read-only" in line]
    assert len(lines) == 1
    assert lines[0].startswith("img2img fit: error: ")


def test_folders_that_only_look_like_numbers_are_no_runs(program):
    for name in ("²", "٣", "9" * 200, "1.5"):
        Path("runs/denoise", name).mkdir(parents=True)
    program("fit", "--trainer.max_steps=1")
    assert Path("runs/denoise/0/best.ckpt").is_file()
    assert str(Path.cwd()).encode() not in Path("runs/denoise/0/last.ckpt").read_bytes()
    assert str(Path.cwd()).encode() not in Path("runs/denoise/0/best.ckpt").read_bytes()
