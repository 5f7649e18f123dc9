"""`img2img models`: lists the models that come with the program, or shows the card of one."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from img2img.shipped import card_of, find_model, shipped_models, summary_of


def run(command: str, arguments: Sequence[str]) -> None:
    """Prints a line for each shipped model, or the card of one."""
    about = "List the models that come with the program, or show the card of one."
    parser = argparse.ArgumentParser(f"img2img {command}", description=about)
    parser.add_argument("name", nargs="?", help="the model whose card to show")
    name, models = parser.parse_args(arguments).name, shipped_models()
    if name is not None:
        file = models[name] if name in models else find_model(name, "models")
        print(card_of(file).read_text(encoding="utf-8").rstrip())
        return
    width = max(map(len, models), default=0)
    for shipped, file in models.items():
        print(f"{shipped:<{width}}  {file.stat().st_size / 1e6:4.1f} MB  {summary_of(card_of(file))}")
    if not models:
        print("This installation has no models.")
    else:
        print("\n`img2img models NAME` shows what one is for and how good it is; --model NAME uses it.")
