"""`img2img shard`: writes a folder of images as shards, for disks and object storage."""

from __future__ import annotations

from collections.abc import Sequence

from img2img.commands.carry_out import carry_out
from img2img.data.sharding import Sharded, shard
from img2img.signature_parser import parser_of


def run(command: str, arguments: Sequence[str]) -> None:
    """Writes the shards, and says how many."""
    options = vars(parser_of(shard, command).parse_args(arguments))

    def describe(done: Sharded) -> list[str]:
        output = options["output"]
        return [f"{done.images} image(s) in {done.shards} shard(s), {done.size / 1e6:.1f} MB: --data.root {output}"]

    carry_out(shard, options, describe)
