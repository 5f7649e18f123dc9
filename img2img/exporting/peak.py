"""How much memory a runtime takes for a model, measured in processes of its own; without importing torch."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np

from img2img.errors import UserError
from img2img.exporting.contract import Contract

SIDES = (512, 1024)
"""Widths of the two images that are compared, in pixels; they are `SIDES[0]` high."""
LEAST = 16.0
"""The least bytes per pixel: runtimes reuse memory that other things took, which the measurement cannot see."""
MARGIN = 1.2
"""Factor on what was measured: allocators keep pieces that they cannot reuse."""


def measured_bytes(path: Path, contract: Contract, engine: str | None = None) -> float:
    """Returns the memory that a runtime takes per input pixel, in bytes; with one thread, as tiles are sized alike.

    Args:
        path: The exported file.
        contract: Its contract.
        engine: Which runtime; None for the usual one of the file.

    Raises:
        UserError: If the runtime fails.
    """
    if contract.size is not None:
        return contract.bytes_per_pixel
    sides = [max(1, side // contract.multiple) * contract.multiple for side in SIDES]
    peaks = [_peak(path, (sides[0], width), engine) for width in sides]
    # Two significant digits: the same file is exported alike again.
    return float(f"{max(LEAST, MARGIN * (peaks[1] - peaks[0]) / (sides[0] * (sides[1] - sides[0]))):.2g}")


def _peak(path: Path, size: tuple[int, int], engine: str | None) -> int:
    """Returns the peak memory in bytes of a process that runs a file on one image."""
    # -P: no module of the working directory is imported.
    words = [sys.executable, "-P", "-m", __name__, str(path), *map(str, size), engine or ""]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    if done.returncode:
        reason = (done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1]
        raise UserError(f"{path.name} cannot be run: {reason}")
    return int(done.stdout.split()[-1])


def _run(path: Path, height: int, width: int, engine: str | None) -> int:
    """Runs a file on one image in this process; returns the process's peak memory in bytes."""
    from img2img.exporting.sessions import open_session

    session, contract = open_session(path, 1, engine)
    image = np.zeros((1, len(contract.input_channels), height, width), np.float32)
    for _ in range(2):  # the second may take memory that the first did not leave
        session(image)
    return peak_memory()


def peak_memory() -> int:
    """Returns the most memory that this process has held so far, in bytes."""
    status = Path("/proc/self/status")
    if status.is_file():  # on Linux `getrusage` of a new process also counts that which started it
        lines = status.read_text(encoding="ascii", errors="replace").splitlines()
        return 1024 * next(int(line.split()[1]) for line in lines if line.startswith("VmHWM:"))
    import psutil

    memory = psutil.Process().memory_info()
    if hasattr(memory, "peak_wset"):  # Windows
        return int(memory.peak_wset)
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # bytes on macOS


if __name__ == "__main__":
    print(_run(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), sys.argv[4] or None))
