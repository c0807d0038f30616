"""What this program is called, and which version of it runs."""

from __future__ import annotations

from typing import Final

from durable_streams.version import __version__

PROGRAM: Final = "durable-streams"
"""What messages call us, however we were started."""


def version() -> str:
    """The version that runs."""
    return __version__
