"""Which files go through the network together, in which order, and in which process."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from img2img.inference.jobs import Job

HUNGRY = 256_000_000
"""Bytes of a whole image in its decoder, above which a file is restored after the others."""


def in_groups(jobs: Iterable[Job], most_pixels: int, most: int = 16) -> list[list[Job]]:
    """Groups the jobs that go through the network together, the largest first, but hungry decoders last.

    A small file can claim a huge image; should the system kill the program for its memory, all others are done.

    Images with one page and the same size and channels are grouped up to `most_pixels`; all others are alone.
    Finished jobs are grouped too: which images share a batch, and with it the last bit of a result, must not depend on
    where an earlier run was interrupted.
    """
    groups: list[list[Job]] = []
    open_groups: dict[tuple[object, ...], list[Job]] = {}
    for job in jobs:
        header = job.header
        if header is None or header.pages > 1 or 2 * job.pixels > most_pixels:
            groups.append([job])
            continue
        kind = (header.width, header.height, header.channels)
        group = open_groups.get(kind)
        if group is None or len(group) == most or (len(group) + 1) * job.pixels > most_pixels:
            group = open_groups[kind] = []
            groups.append(group)
        group.append(job)
    return sorted(groups, key=lambda group: (any(map(_is_hungry, group)), -_pixels(group)))


def _is_hungry(job: Job) -> bool:
    return job.header is not None and job.header.held > HUNGRY


def shard(groups: Sequence[list[Job]], rank: int, world_size: int) -> list[list[Job]]:
    """Returns the groups of one process, largest groups first: each goes to the process with the least work.

    "Longest processing time first", Graham, "Bounds on multiprocessing timing anomalies", 1969.
    """
    loads, mine = [0] * world_size, []
    for group in groups:
        least = loads.index(min(loads))
        loads[least] += _pixels(group) + 1
        if least == rank:
            mine.append(group)
    return mine


def _pixels(group: Sequence[Job]) -> int:
    return sum(job.pixels for job in group)
