"""The one exception that commands show as one line."""

from __future__ import annotations


class UserError(ValueError):
    """What the user gave is wrong; the message is one line that says what, and what would be right."""
