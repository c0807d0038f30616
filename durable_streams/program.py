"""What this program is called, which version of it runs, and how it shows what others wrote."""

from __future__ import annotations

from typing import Final

from durable_streams.version import __version__

PROGRAM: Final = "durable-streams"
"""What messages call us, however we were started."""


def version() -> str:
    """The version that runs."""
    return __version__


def shown(text: str) -> str:
    """A text for a line on a terminal: what is not printable is an escape."""
    if text.isprintable():
        return text
    return "".join(
        one if one.isprintable() else one.encode("unicode_escape").decode() for one in text
    )
