"""The parser of training options: short help and short errors."""

import pytest

from img2img.cli import main


def test_the_help_of_a_class_names_our_classes_only(capsys):
    with pytest.raises(SystemExit) as stop:
        main(["fit", "--model.help", "Restoration"])
    said = capsys.readouterr().out
    assert stop.value.code == 0
    assert len(said.splitlines()) < 100
    assert all(name in " ".join(said.split()) for name in ("RestorationUNet", "Charbonnier", "--model.decay_steps"))
    assert "torch.nn" not in said
    assert "UncertainRestoration" not in said, "a task is not the network of another"
