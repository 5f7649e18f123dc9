"""`img2img schema`: writes a JSON schema of the configs, with which editors complete and check them."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path

from img2img.imaging.parts import appearing


def run(command: str, arguments: Sequence[str]) -> None:
    """Prints the schema, or writes it to a file."""
    about = "Write a JSON schema of the configs, for completion in editors."
    parser = argparse.ArgumentParser(f"img2img {command}", description=about)
    parser.add_argument("output", nargs="?", help="the file to write, such as schema.json (default: print it)")
    output = parser.parse_args(arguments).output
    from img2img.training.schema import schema

    text = json.dumps(schema(), indent=1) + "\n"
    if output is None:
        print(text, end="")
        return
    with appearing(Path(output)) as part:
        part.write_text(text, encoding="utf-8")
    print(f"{output}: begin a config with  # yaml-language-server: $schema={output}")
