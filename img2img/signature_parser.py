"""Makes a command line from a function's signature and docstring, so that each option is described once."""

from __future__ import annotations

import argparse
import ast
import inspect
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, NoReturn

from docstring_parser import parse


def parser_of(
    function: Callable[..., Any],
    command: str,
    positional: Collection[str] = ("input", "output"),
    names: Mapping[str, str] | None = None,
    shared: Sequence[Callable[..., Any]] = (),
    without: Collection[str] = (),
) -> argparse.ArgumentParser:
    """Returns the parser of a command.

    A parameter without default is required. `bool` becomes a switch, `int` and `float` numbers, `Literal` a choice, and
    a sequence an option that may be given several times; anything else is text. `progress` is not an option: it is
    True. Annotations are read as text: nothing that they name is imported. Options may have hyphens for underscores.

    Args:
        function: Function with the command's parameters; its docstring (Google style) describes it and them.
        command: The command's name.
        positional: Parameters that are given by position.
        names: Options whose names differ from their parameters', such as `{"start": "from"}`.
        shared: Classes or functions whose parameters the function takes as `**kwargs`.
        without: Parameters that are no options.
    """
    parser = _Parser(f"img2img {command}", description=parse(inspect.getdoc(function) or "").short_description)
    for source in (function, *shared):
        texts = {entry.arg_name: entry.description or "" for entry in parse(inspect.getdoc(source) or "").params}
        for name, parameter in inspect.signature(source).parameters.items():
            if name == "progress":
                parser.set_defaults(progress=True)
            elif parameter.kind is not inspect.Parameter.VAR_KEYWORD and name not in without:
                _add(parser, parameter, texts.get(name, ""), name in positional, (names or {}).get(name, name))
    return parser


class _Parser(argparse.ArgumentParser):
    """An argument parser with one-line errors, whose options may be spelt with hyphens."""

    def error(self, message: str) -> NoReturn:
        """Ends the program with code 2 and one line."""
        self.exit(2, f"{self.prog}: error: {message} ({self.prog} --help tells more)\n")

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        """Parses arguments as argparse does, with hyphens in the names of options read as underscores."""
        if args is not None:
            words = list(args)
            options = words.index("--") if "--" in words else len(words)
            args = [_underscored(word) for word in words[:options]] + words[options:]
        return super().parse_known_args(args, namespace)


def _underscored(word: str) -> str:
    option, equals, value = word.partition("=")
    return "--" + option[2:].replace("-", "_") + equals + value if word.startswith("--") else word


def _add(parser: argparse.ArgumentParser, parameter: inspect.Parameter, text: str, by_place: bool, option: str) -> None:
    name, kind = parameter.name, str(parameter.annotation)
    required, text = parameter.default is inspect.Parameter.empty, " ".join(text.split()).replace("%", "%%")
    if by_place:
        optional = {} if required else {"nargs": "?", "default": parameter.default}
        parser.add_argument(name, help=text, **({"nargs": "+"} if "Sequence[" in kind else optional))
        return
    given: dict[str, Any] = {"dest": name, "help": text}
    given |= {"required": True} if required else {"default": parameter.default}
    if kind == "bool":
        given["action"] = "store_true"
    elif kind.startswith("Literal["):
        given["choices"] = ast.literal_eval(kind.removeprefix("Literal").partition("]")[0] + "]")
    elif kind.startswith("Sequence["):
        given |= {"action": "append", "default": [], "metavar": option.upper()}
    else:
        numbers = {"int": int, "float": float, "int | str": lambda word: int(word) if word.isdigit() else word}
        given |= {"type": numbers.get(kind.removesuffix(" | None"), str), "metavar": option.upper()}
    parser.add_argument(f"--{option}", **given)
