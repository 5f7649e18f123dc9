"""What commands show as one line."""

from __future__ import annotations


class UserError(ValueError):
    """What the user gave is wrong; the message is one line that says what, and what would be right."""


def printable(text: str) -> str:
    """Returns a text with what could break the line or steer the terminal, in a file's name, as escapes."""
    return "".join(char if char.isprintable() else repr(char)[1:-1] for char in text)
