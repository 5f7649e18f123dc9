"""Functions that decode the next rows of a picture each time they are called."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import numpy as np
import pyvips

from img2img.imaging.turning import STRIP
from img2img.imaging.values import Pixels

DTYPES = {"uchar": np.uint8, "ushort": np.uint16, "float": np.float32}


def rows_of(image: pyvips.Image) -> Callable[[int], Pixels]:
    """Return a function that decodes the given number of next rows.

    Regions are computed in the calling thread. `Image.numpy()` would use libvips' thread pool instead: a forked
    data-loading worker would wait for it forever, and each worker would start as many threads as there are cores.
    """
    region = cache(lambda: pyvips.Region.new(image))  # at first use, because reading only a header must cost nothing
    done = 0

    def take(rows: int) -> Pixels:
        nonlocal done
        pixels = np.empty((rows, image.width, image.bands), DTYPES[image.format])
        for top in range(0, rows, STRIP):
            strip = pixels[top : top + STRIP]
            fetched = region().fetch(0, done, image.width, len(strip))
            strip[...] = np.frombuffer(fetched, pixels.dtype).reshape(strip.shape)
            done += len(strip)
        return pixels

    return take


def rows_of_whole(decode: Callable[[], Pixels]) -> Callable[[int], Pixels]:
    """Return a function that returns the given number of next rows of a picture, which its first call decodes whole."""
    whole = cache(decode)
    done = 0

    def take(rows: int) -> Pixels:
        nonlocal done
        done += rows
        pixels = whole()
        return pixels.reshape(*pixels.shape[:2], -1)[done - rows : done]

    return take
