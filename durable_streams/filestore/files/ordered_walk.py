"""The directories of streams below a prefix, in the order of their names.

The order tells at every moment which ones the walk has passed, whatever is removed meanwhile.  Of
a directory at most :data:`MOST_NAMES` names are in memory, beside those of the directories above
it; one that has more is listed again behind the last of them.

A name counts by how it looks, as in every walk over streams.  What cannot be listed raises
``OSError``, but for what is no directory, or not there any more.
"""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING, Final

from durable_streams.filestore.files import names

if TYPE_CHECKING:
    from collections.abc import Iterator

    from durable_streams.filestore.files.directory import Layout
    from durable_streams.filestore.files.disk import Disk

MOST_NAMES: Final = 100_000
"""In memory of one directory: 10 MB, and 10 looks at a directory of a million."""

_NOWHERE: Final = frozenset({errno.ELOOP, errno.ENAMETOOLONG})
"""Of a link to a directory above it: no stream is there that is not elsewhere as well."""

Place = tuple[str, ...]
"""The names of a stream's directory and of those above it, from ``streams/`` on."""


def place_of(path: tuple[str, ...]) -> Place:
    """Where in the order a stream comes."""
    return tuple(names.directory_of(path).split("/"))


def streams_in_order(
    layout: Layout, prefix: tuple[str, ...], most_names: int = MOST_NAMES
) -> Iterator[Place]:
    """The places of all streams at and below a prefix, which () is for all; blocks."""
    if not prefix:
        yield from _below(layout, (), most_names)
        return
    *above, own = place_of(prefix)
    yield from _below(layout, (*above, own.removesuffix("@")), most_names)
    if layout.disk.is_directory(layout.stream_directory(prefix)):
        yield (*above, own)


def _below(layout: Layout, top: Place, most_names: int) -> Iterator[Place]:
    levels = [_Level(layout, top, most_names)]
    while levels:
        level = levels[-1]
        name = level.next()
        if name is None:
            levels.pop()
        elif names.is_stream_directory(name):
            yield (*level.place, name)
        else:
            levels.append(_Level(layout, (*level.place, name), most_names))


class _Level:
    """The names of one directory, in order."""

    __slots__ = ("_disk", "_last", "_most", "_path", "_waiting", "place")

    def __init__(self, layout: Layout, place: Place, most: int) -> None:
        self.place = place
        self._disk: Disk = layout.disk
        self._path = "/".join((str(layout.streams), *place))
        self._most = most
        self._last: str | None = ""  # behind which to look for more; None: there are none
        self._waiting: list[str] = []  # the next one last

    def next(self) -> str | None:
        """The next name; None at the end."""
        if not self._waiting and self._last is not None:
            self._look(self._last)
        return self._waiting.pop() if self._waiting else None

    def _look(self, last: str) -> None:
        try:
            found = self._disk.names_behind(self._path, last, self._most)
        except OSError as error:
            if error.errno not in _NOWHERE:
                raise
            found = []
        self._last = found[-1] if len(found) == self._most else None
        self._waiting = found[::-1]
