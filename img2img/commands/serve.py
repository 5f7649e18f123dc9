"""`img2img serve`: a page in the browser that restores pictures on this machine."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence

from img2img.errors import UserError, printable
from img2img.own_classes import look_for


def run(command: str, arguments: Sequence[str]) -> None:
    """Serves until interrupted.

    Raises:
        UserError: If the packages of the server are missing, or it cannot start.
    """
    missing = [name for name in ("starlette", "uvicorn") if importlib.util.find_spec(name) is None]
    if missing:
        raise UserError(f"the page needs {' and '.join(missing)}: pip install -e '.[serve]'")
    from img2img.serve.server import open_server
    from img2img.signature_parser import parser_of

    options = vars(parser_of(open_server, command, positional=()).parse_args(arguments))
    look_for(options["trust"])
    with open_server(**options) as server:
        print(printable(f"Open this page in a browser: {server.address}"))
        print("Whoever has the address can use it. Ctrl-C ends the server and removes all pictures.", flush=True)
        try:
            server.run()
        except KeyboardInterrupt:
            print()
