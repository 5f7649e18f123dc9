"""The entry point: which commands exist. Cheap to import; heavy imports happen after the command is known."""

from __future__ import annotations

import difflib
import errno
import importlib
import os
import sys
import warnings
from collections.abc import Sequence

from img2img.errors import printable
from img2img.own_classes import look_as_parent

look_as_parent()  # spawned processes import this module before they need the user's classes

COMMANDS = {
    "fit": ("train", "train a model: img2img fit --config denoise.yaml"),
    "validate": ("train", "measure a checkpoint on the validation images"),
    "test": ("train", "measure a checkpoint on the test images, by the standard protocol"),
    "predict": ("train", "restore a folder with a config's network: --restore.input photos/ --restore.output out/"),
    "restore": ("restore", "restore a folder or an image: img2img restore photos/ restored/ --model denoise"),
    "serve": ("serve", "open a page in the browser that restores pictures on this machine"),
    "models": ("models", "list the models that come with the program, or show the card of one: img2img models denoise"),
    "pack": ("pack", "pack a checkpoint into one small file: img2img pack best.ckpt mine.safetensors"),
    "export": ("export", "write a model for other runtimes: img2img export denoise OUT.onnx"),
    "encode": ("encode", "write the latents of images: img2img encode photos/ OUT.npz --model best.ckpt"),
    "evaluate-latents": ("evaluate_latents", "measure how well latents tell the folders apart, compared with PCA"),
    "score": ("score", "score how abnormal images are: img2img score parts/ OUT.csv --model best.ckpt"),
    "reconstruct": ("reconstruct", "write an autoencoder's reconstructions: img2img reconstruct in/ out/ --model CKPT"),
    "preview": ("preview", "draw training pairs of a config: img2img preview --config denoise.yaml pairs.png"),
    "shard": ("shard", "write a folder as shards, for disks and object storage: img2img shard photos/ shards/"),
    "sample": ("sample", "draw new images from an autoencoder: img2img sample faces.png --model vae.ckpt"),
    "interpolate": ("interpolate", "draw the steps from one image to another: img2img interpolate a.png b.png way.gif"),
    "traverse": ("traverse", "draw how each latent changes an image: img2img traverse a.png latents.png"),
    "edit": ("edit", "add an attribute to images: img2img edit in/ out/ --from neutral/ --to smile/"),
    "sweep": ("sweep", "train with many settings, and find the best: img2img sweep --set model.lr=log:1e-4..3e-3 …"),
    "watch": ("watch", "open TensorBoard on the runs, with every image step kept"),
    "schema": ("schema", "write a JSON schema of the configs, for completion in editors"),
    "configs": ("configs", "list the configs that come with the program"),
}
"""Command: (module in `img2img.commands`, what it does)."""

USER_ERRORS = (
    *("UserError", "UnreadableImage", "MisconfigurationException"),
    *("FileNotFoundError", "NotADirectoryError", "PermissionError"),
)
"""Names of errors that are the user's to mend; others are bugs and show their traceback."""

OF_THE_DISK = {errno.EROFS, errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.ENAMETOOLONG, errno.ELOOP}
"""Errors of the operating system that are the user's to mend, too: read-only, full, over quota …"""


def main(argv: Sequence[str] | None = None) -> None:
    """Runs a command.

    Args:
        argv: The arguments after the program's name; None for those of the process.

    Raises:
        SystemExit: With code 2 and one line on stderr if the user's input is wrong, 1 if part of the work failed.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    if argv is None:  # the program itself: Python processes that it starts do not import from the working directory
        os.environ["PYTHONSAFEPATH"] = "1"
    if not arguments or arguments[0] in ("-h", "--help"):
        print(usage())
        return
    if arguments[0] == "--version":
        from img2img.version import __version__

        print(f"img2img {__version__}")
        return
    # Without the file and line of the code, which mean nothing to a user.
    warnings.formatwarning = lambda message, *_, **__: f"img2img: warning: {message}\n"
    command, rest = arguments[0], arguments[1:]
    if command not in COMMANDS:
        from img2img.shipped import shipped_configs

        close = difflib.get_close_matches(command, COMMANDS, n=1)
        hint = f"; did you mean {close[0]}?" if close else f"; the commands are {', '.join(COMMANDS)}"
        if command in {config.stem for config in shipped_configs()}:
            hint = f"; to train: img2img fit --config {command}.yaml"
        fail(f"img2img: error: there is no command {command!r}{hint}")
    module = importlib.import_module(f"img2img.commands.{COMMANDS[command][0]}")
    try:
        module.run(command, rest)
    except KeyboardInterrupt:  # before the command had anything to clean up
        print(f"img2img {command}: interrupted", file=sys.stderr)
        raise SystemExit(130) from None
    except Exception as error:
        # By name, because importing the classes would take the seconds that this module saves.
        names = {cls.__name__ for cls in type(error).__mro__}
        of_the_disk = isinstance(error, OSError) and error.errno in OF_THE_DISK
        if os.environ.get("IMG2IMG_TRACEBACK") or (names.isdisjoint(USER_ERRORS) and not of_the_disk):
            raise
        # An error from a worker process carries the worker's traceback; its last line is the message.
        last_line = (str(error).strip() or type(error).__name__).splitlines()[-1].split("UserError: ")[-1]
        fail(f"img2img {command}: error: {printable(last_line)}", getattr(error, "exit_code", 2))


def usage() -> str:
    """Returns the program's help, with a line for each command."""
    wide = max(map(len, COMMANDS))
    lines = "\n".join(f"  {name:<{wide}} {text}" for name, (_, text) in COMMANDS.items())
    about = "Train image-to-image models on real photographs, restore whole folders with them."
    more = "img2img COMMAND --help tells more about one; img2img --version prints the version."
    return f"usage: img2img COMMAND …\n\n{about}\n\n{lines}\n\n{more}"


def fail(message: str, code: int = 2) -> None:
    """Ends the program with a code and one line on stderr."""
    print(message, file=sys.stderr)
    raise SystemExit(code)
