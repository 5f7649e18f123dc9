"""`img2img models`: the models that come with the program, and their cards."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from img2img.shipped import find_model, shipped_models


def run(command: str, arguments: Sequence[str]) -> None:
    """Prints a line for each shipped model, or the card of one.

    Raises:
        UserError: If there is no model of that name.
    """
    parser = argparse.ArgumentParser(
        f"img2img {command}", description="List the models that come with the program, or show the card of one."
    )
    parser.add_argument("name", nargs="?", help="the model whose card to show")
    name, models = parser.parse_args(arguments).name, shipped_models()
    if name is not None:
        file = models[name] if name in models else find_model(name, "models")
        print(card_of(file).read_text(encoding="utf-8").rstrip())
        return
    width = max(map(len, models), default=0)
    for shipped, file in models.items():
        print(f"{shipped:<{width}}  {file.stat().st_size / 1e6:4.1f} MB  {summary(card_of(file))}")
    if not models:
        print("This installation has no models.")
    else:
        print("\n`img2img models NAME` shows what one is for and how good it is; --model NAME uses it.")


def card_of(model: Path) -> Path:
    """Returns the card that lies beside a model.

    Raises:
        FileNotFoundError: If there is none.
    """
    card = model.with_suffix(".md")
    if not card.is_file():
        raise FileNotFoundError(f"{model} has no card {card.name} beside it")
    return card


def summary(card: Path) -> str:
    """Returns the first line below a card's heading."""
    lines = card.read_text(encoding="utf-8").splitlines()
    return next((line.strip() for line in lines[1:] if line.strip()), "")
