"""The paths of all streams, as the file system has them, in no order; blocks.

Names come one at a time, as directories may have a million of them: none of a directory are in
memory at once but those of very deep ones.  Each stream that is there all the while comes exactly
once; one that comes or goes meanwhile may be missed, or come.

As in every walk over streams, a name counts by how it looks, and what no stream can be called is
passed over.  What cannot be listed raises ``OSError``, but for what is no directory, or not there
any more.
"""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING, Final

from durable_streams.filestore.files import names
from durable_streams.model.paths import RESERVED_SEGMENT

if TYPE_CHECKING:
    from collections.abc import Iterator

    from durable_streams.filestore.files.directory import Layout
    from durable_streams.model.paths import StreamPath

_MOST_OPEN: Final = 16
"""Directories that are open at once, each within the one before; the names of others are read."""

_NOWHERE: Final = frozenset({errno.ELOOP, errno.ENAMETOOLONG})
"""Of a link to a directory above it: no stream is there that is not elsewhere as well."""


def paths_on_disk(layout: Layout) -> Iterator[StreamPath | None]:
    """The paths, and a None now and then for names that are of no stream, so that it can pause."""
    root = str(layout.streams)
    levels: list[_Level] = [_Level("", (), layout.disk.each_name(root))]
    while levels:
        level = levels[-1]
        try:
            name = next(level.names, None)
        except OSError as error:
            if error.errno not in _NOWHERE:
                raise
            name = None
        if name is None:
            levels.pop()
            continue
        place = level.place + name
        if names.is_stream_directory(name):
            yield _path(level, name, place)
            continue
        below = f"{root}/{place}"
        if len(levels) < _MOST_OPEN:
            found = layout.disk.each_name(below)
        else:
            found = _all_names(layout, below)
        levels.append(_Level(f"{place}/", _namespace(level, name), found))
        yield None


class _Level:
    """A directory under way.

    ``place``: where it is, with a slash at its end.  ``path``: what its name means, None where that
    takes a look at the whole.
    """

    __slots__ = ("names", "path", "place")

    def __init__(self, place: str, path: StreamPath | None, found: Iterator[str]) -> None:
        self.place = place
        self.path = path
        self.names = found


def _all_names(layout: Layout, path: str) -> Iterator[str]:
    """The same, read when the first is asked for."""
    yield from layout.disk.names(path)


def _namespace(level: _Level, name: str) -> StreamPath | None:
    return None if level.path is None or not names.is_as_it_is(name) else (*level.path, name)


def _path(level: _Level, name: str, place: str) -> StreamPath | None:
    """The path of a stream's directory; None if no stream is called so."""
    own = name[:-1]
    path: StreamPath | None
    if level.path is not None and names.is_as_it_is(own):
        path = (*level.path, own)
    else:
        path = names.path_of(place)
    return None if path is None or path[0] == RESERVED_SEGMENT else path
