"""Errors that commands show as one line."""

from __future__ import annotations


class UserError(ValueError):
    """The user's input is wrong; the message is one line that says what is wrong and what would be right."""


def printable(text: str) -> str:
    """Escapes characters of a text, such as a file's name, that could break the line or control the terminal."""
    return "".join(char if char.isprintable() else repr(char)[1:-1] for char in text)
