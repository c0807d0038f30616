"""What descriptors a process has open, and which of them it should not."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable

MOST_OF_A_FILE: Final = 2
"""A stream's file is open once to be written and once to be read, however many do."""


def open_now(pid: int | str = "self") -> list[str]:
    """What the descriptors of a process point to."""
    found = []
    for descriptor in Path(f"/proc/{pid}/fd").iterdir():
        try:
            found.append(str(descriptor.readlink()))
        except FileNotFoundError:  # closed meanwhile, as is the one that lists them
            continue
    return found


def sockets(opened: Iterable[str]) -> int:
    """How many of them are sockets."""
    return sum(name.startswith("socket:") for name in opened)


def leaked_files(opened: Iterable[str]) -> dict[str, int]:
    """Files that are open more often than caches keep them, and how often."""
    counted = Counter(name for name in opened if name.startswith("/") and "/streams/" in name)
    return {name: count for name, count in counted.items() if count > MOST_OF_A_FILE}
