"""`img2img watch`: opens TensorBoard on the runs, with every image step kept."""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from pathlib import Path

from img2img.errors import UserError

MANY_STEPS = 1_000_000


def run(command: str, arguments: Sequence[str]) -> None:
    """Serves TensorBoard until interrupted.

    Raises:
        UserError: If there is no such folder.
    """
    parser = argparse.ArgumentParser(f"img2img {command}", description="Open TensorBoard on the runs.")
    parser.add_argument("folder", nargs="?", default="runs", help="the folder of the runs (default: runs)")
    parser.add_argument("--port", type=int, help="port to listen on (default: 6006, or the next free one)")
    parser.add_argument("--host", default="localhost", help="address to listen on; 0.0.0.0 for other machines too")
    options = parser.parse_args(arguments)
    folder = Path(options.folder)
    if not folder.is_dir():
        raise UserError(f"there is no folder {folder}; run `img2img fit` first, or name the folder of the runs")
    print(f"TensorBoard on {folder}: {serve(folder, options.host, options.port)}  (Ctrl-C ends it)", flush=True)
    try:
        while True:
            time.sleep(3600)
    except KeyboardInterrupt:
        print()


def serve(folder: Path, host: str = "localhost", port: int | None = None) -> str:
    """Starts TensorBoard in a separate thread and returns its address.

    Raises:
        UserError: If the port is taken.
    """
    from tensorboard.program import TensorBoard, TensorBoardServerException

    # TensorBoard keeps 10 random images of a tag, but people compare with the early steps. Not 0, which its help calls
    # "all": the fast loader then keeps no images.
    flags = ["--logdir", str(folder), "--host", host, "--samples_per_plugin", f"images={MANY_STEPS}"]
    board = TensorBoard()
    board.configure(argv=[None, *flags, *([] if port is None else ["--port", str(port)])])
    try:
        return str(board.launch())
    except TensorBoardServerException as error:
        raise UserError(f"TensorBoard could not start: {error}") from error
