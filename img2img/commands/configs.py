"""`img2img configs`: lists the configs that come with the program."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from img2img.shipped import shipped_configs


def run(command: str, arguments: Sequence[str]) -> None:
    """Prints each shipped config's name and the text of its first line, a comment."""
    parser = argparse.ArgumentParser(f"img2img {command}", description="List the configs that come with the program.")
    parser.parse_args(arguments)
    configs = shipped_configs()
    width = max((len(config.name) for config in configs), default=0)
    for config in configs:
        first_line = config.read_text(encoding="utf-8").partition("\n")[0]
        print(f"{config.name:<{width}}  {first_line.removeprefix('#').strip()}")
    if configs:
        print(f"\nThey are in {configs[0].parent}; a file of the same name in the working directory comes first.")
