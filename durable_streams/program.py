"""What this program is called, and which version of it runs."""

from __future__ import annotations

from importlib import metadata
from typing import Final

PROGRAM: Final = "durable-streams"
"""What messages call us, however we were started."""


def version() -> str:
    """The version that is installed."""
    try:
        return metadata.version("durable-streams-server")
    except metadata.PackageNotFoundError:
        return "(not installed)"
