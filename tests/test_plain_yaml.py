"""Small YAML texts that stand for billions of values, or are no YAML, end in one line at once."""

from __future__ import annotations

from pathlib import Path

import pytest

from img2img.cli import main
from img2img.errors import UserError
from img2img.plain_yaml import read_yaml, read_yaml_file

LEVELS = range(1, 30)
BOMB = "l0: &l0 [x, x]\n" + "".join(f"l{n}: &l{n} [{', '.join([f'*l{n - 1}'] * 9)}]\n" for n in LEVELS)
MERGE = "l0: &l0 {a: 1, b: 2}\n" + "".join(f"l{n}: &l{n} {{<<: [{', '.join([f'*l{n - 1}'] * 9)}]}}\n" for n in LEVELS)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (BOMB, "holds too much"),
        (MERGE, "holds too much"),
        ("a: &a [*a]", "is nested too deeply"),
        ("[" * 100_000, "is nested too deeply"),
        ("{a: " * 100_000, "is nested too deeply"),
        ("- x\n" * 300_000, "holds too much"),
        ("a: !!python/object/apply:os.system [true]", "is not YAML"),
        (f"a: {'9' * 5000}", "is not YAML"),
        ("a: 2001-99-99", "is not YAML"),
        ("a: [", "is not YAML"),
        ("a: \0", "is not YAML"),
    ],
    ids=["aliases", "merges", "itself", "lists", "maps", "long", "code", "digits", "date", "cut", "zero"],
)
def test_hostile_texts(text, said):
    with pytest.raises(UserError, match=f"^c.yaml {said}") as refused:
        read_yaml(text, "c.yaml")
    assert "\n" not in str(refused.value)


def test_plain_yaml_with_aliases_and_a_mark_of_byte_order():
    Path("c.yaml").write_bytes("\ufeffa: &a [1, 2.5]\nb: {c: *a}\n".encode())
    assert read_yaml_file(Path("c.yaml")) == {"a": [1, 2.5], "b": {"c": [1, 2.5]}}
    Path("c.yaml").write_bytes(b"a: \xff")
    with pytest.raises(UserError, match="UTF-8"):
        read_yaml_file(Path("c.yaml"))


def test_a_bomb_that_a_config_refers_to_or_quotes(capsys):
    Path("bomb.yaml").write_text(BOMB)
    quoted = "|\n      " + BOMB.replace("\n", "\n      ")
    for place in ("bomb.yaml", quoted):
        for key in ("network", "loss"):
            Path("c.yaml").write_text(
                f"model:\n  class_path: Restoration\n  init_args:\n    network: RestorationUNet\n    {key}: {place}\n"
                "data: {class_path: CorruptedPairs, init_args: {root: starter}}\n".replace(
                    "    network: RestorationUNet\n", "" if key == "network" else "    network: RestorationUNet\n"
                )
            )
            with pytest.raises(SystemExit):
                main(["fit", "--config", "c.yaml"])
            assert len(capsys.readouterr().err) < 2000
