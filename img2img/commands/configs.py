"""`img2img configs`: lists the configs that come with the program."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from img2img.shipped import shipped_configs


def run(command: str, arguments: Sequence[str]) -> None:
    """Prints each shipped config's name and the text of its first comment line."""
    parser = argparse.ArgumentParser(f"img2img {command}", description="List the configs that come with the program.")
    parser.parse_args(arguments)
    configs = shipped_configs()
    width = max((len(config.name) for config in configs), default=0)
    for config in configs:
        print(f"{config.name:<{width}}  {first_comment(config)}")
    if configs:
        print(f"\nThey are in {configs[0].parent}; a file of the same name in the working directory comes first.")


def first_comment(config: Path) -> str:
    """Returns the text of a config's first line, which is a comment."""
    first_line = config.read_text(encoding="utf-8").partition("\n")[0]
    return first_line.removeprefix("#").strip()
