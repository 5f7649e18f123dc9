"""Attacks the program with hostile files, and prints a line for each: `python -m benchmarks.attacks [word …]`.

Each attack runs in a process of its own, in an empty folder, and may take a minute and 1.5 GB. It has failed where
nothing ran, nothing outside of the outputs changed, no connection was tried, and the program ended by itself without a
traceback. Words choose the attacks whose names hold one of them.
"""

from __future__ import annotations

import sys

from benchmarks.attacks import checkpoints, configs, files
from benchmarks.attacks.kit import ATTACKS
from benchmarks.attacks.running import run


def main(words: list[str]) -> None:
    """Runs the attacks and prints the tally."""
    for kind in (checkpoints, configs, files):
        kind.register()
    import img2img.inference.run
    import img2img.inference.writer
    import img2img.training.cli  # noqa: F401

    chosen = {name: each for name, each in ATTACKS.items() if not words or any(word in name for word in words)}
    held = 0
    for name, prepare in chosen.items():
        result, last = run(prepare, name.startswith(("image", "journal", "output", "working")))
        held += result.startswith("held")
        print(f"{name:<62} {result}\n{'':<8}{last}", flush=True)
    print(f"{held} of {len(chosen)} held")


if __name__ == "__main__":
    main(sys.argv[1:])
