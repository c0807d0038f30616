"""Finding every stream's directory for the tools, whatever lies about below ``streams/``.

Where a server passes over what it cannot list, the tools name it.  A symbolic link to a directory
above it would be followed for ever: it is named, and what is behind it is looked at elsewhere.
"""

from __future__ import annotations

import os.path
from typing import TYPE_CHECKING

from durable_streams.filestore.files import names

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from durable_streams.filestore.files.directory import Layout


def stream_homes(
    layout: Layout,
    unread: Callable[[Path, OSError], None],
    stranger: Callable[[Path, str], None],
) -> Iterator[Path]:
    """Every stream's directory, lazily; blocks.

    ``unread`` is told of what cannot be looked at, ``stranger`` of what is none, and why.
    """
    top: tuple[str, ...] = (os.path.realpath(layout.streams),)
    waiting = [(layout.streams, top)]
    while waiting:
        current, above = waiting.pop()
        try:
            found = sorted(layout.disk.names(current))
        except OSError as error:
            unread(current, error)
            continue
        for path in (current / name for name in found):
            try:
                is_directory = layout.disk.is_directory(path)
            except OSError as error:
                unread(path, error)
                continue
            if not is_directory:
                stranger(path, "it is no stream's directory")
            elif names.is_stream_directory(path.name):
                yield path
            elif (real := os.path.realpath(path)) in above:
                stranger(path, "it is a link to a directory above it")
            else:
                waiting.append((path, (*above, real)))
