"""Packs a checkpoint into one small file that holds the whole model, with a card to fill in."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from img2img.errors import UserError
from img2img.inference.checks import check_free
from img2img.shipped import find_model

CARD = """\
# {name}

What this model does, in one line; `img2img models` shows it.

{size:.1f} MB, {parameters:.2f} million parameters in {precision}, {task} with {network}.

## What it is for

## What it is not for

## How it was trained

Data with their licences, config, seed, steps, hours, machine.

## How good it is

| images | before | after | command |
|---|---|---|---|
"""


@dataclass(frozen=True)
class Packed:
    """The files of a packed model: the model, its size in bytes, and its card (an existing one is kept)."""

    model: Path
    card: Path
    size: int


def pack(
    model: str | Path,
    output: str | Path,
    precision: Literal["float16", "bfloat16", "float32"] = "float16",
    overwrite: bool = False,
) -> Packed:
    """Writes a checkpoint's (averaged) weights and recipe to one safetensors file, and a card beside it.

    Args:
        model: Checkpoint that `img2img fit` wrote, such as runs/denoise/0/best.ckpt.
        output: File to write, such as mine.safetensors.
        precision: Precision of the stored weights (default: float16); they are read as float32 again.
        overwrite: Replace an existing model, but never its card.

    Raises:
        UserError: If the checkpoint holds no recipe, or the output exists or does not end in .safetensors.
    """
    target = Path(output).expanduser()
    if target.suffix != ".safetensors":
        raise UserError(f"the output {output} must end in .safetensors, which says what kind of file it is")
    check_free(target, overwrite)
    from img2img.tasks.checkpoint import CHECKPOINT_KEY, OF_TRAINING, CheckpointError, read_checkpoint
    from img2img.tasks.packed import write_packed

    path = find_model(model, "the checkpoint")
    contents = read_checkpoint(path)
    about = contents.get(CHECKPOINT_KEY)
    if not isinstance(about, dict) or not isinstance(about.get("recipe"), dict):
        raise CheckpointError(f"{path} holds no recipe: only what `img2img fit` trained can be packed")
    kept = {name: value for name, value in about.items() if name not in ("format", *OF_TRAINING)}
    seeds = [value["seed"] for value in contents.values() if isinstance(value, dict) and "next_sample" in value]
    if seeds:  # tells which images were held out if one folder was divided
        kept["seed"] = seeds[0]
    state = contents["state_dict"]
    try:
        write_packed(target, state, kept, precision)
    except ValueError as error:
        raise CheckpointError(f"{path}: {error}") from error
    card, size = target.with_suffix(".md"), target.stat().st_size
    if not card.exists():
        network = (about["recipe"].get("init_args") or {}).get("network")
        names = {
            "task": _class_name(about["recipe"]),
            "network": _class_name(network) if isinstance(network, dict) else "its default network",
        }
        parameters = sum(tensor.numel() for tensor in state.values()) / 1e6
        text = CARD.format(name=target.stem, size=size / 1e6, parameters=parameters, precision=precision, **names)
        card.write_text(text, encoding="utf-8")
    return Packed(target, card, size)


def _class_name(recipe: dict[str, Any]) -> str:
    return str(recipe.get("class_path", "")).rpartition(".")[2]
