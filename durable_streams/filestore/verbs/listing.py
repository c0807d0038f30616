"""Pages of the list of streams.

What is listed is what a reader would find: a stream whose birth is durable, until its end is, or
its time is over; not one that is kept for forks only.  Of an open stream memory tells all, of any
other one its files; those are read in threads, a few at a time and for two pages at once, so that
whoever reads streams is not held up by lists.

A stream whose files cannot be read, or that is out of service, is in the list with the reason, and
hides no other.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from durable_streams.filestore.files.disk import NO_DESCRIPTORS
from durable_streams.filestore.files.stream_files import DamagedFiles
from durable_streams.filestore.files.stream_rows import row_on_disk
from durable_streams.filestore.streams.life import RULES, Life
from durable_streams.model.errors import Unavailable
from durable_streams.model.results import StreamPage, StreamRow, UnusableRow

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from durable_streams.filestore.core import Core
    from durable_streams.filestore.streams.stream import Stream
    from durable_streams.filestore.verbs.listed_paths import ListedPaths
    from durable_streams.model.paths import StreamPath

_PAGES_AT_ONCE: Final = 2  # of the executor's eight threads
_LOOKED_AT_ONCE: Final = 256  # paths that are offered to a filter in one turn of the loop

Row = StreamRow | UnusableRow


class Listing:
    """The verb ``list_streams``."""

    def __init__(self, core: Core, listed: ListedPaths) -> None:
        self._core = core
        self._listed = listed
        self._turns = asyncio.Semaphore(_PAGES_AT_ONCE)

    async def page(
        self,
        prefix: StreamPath,
        after: StreamPath,
        limit: int,
        may: Callable[[StreamPath], bool] | None,
        most: int,
    ) -> StreamPage:
        """See ``store``."""
        paths, end = await self._chosen(prefix, after, limit, may, most)
        rows: list[Row] = []
        step = self._core.tuning.rows_at_once
        for begin in range(0, len(paths), step):
            rows += await self._rows(paths[begin : begin + step])
            await asyncio.sleep(0)  # where memory told all of them
        return StreamPage(rows, end)

    async def _chosen(
        self,
        prefix: StreamPath,
        after: StreamPath,
        limit: int,
        may: Callable[[StreamPath], bool] | None,
        most: int,
    ) -> tuple[list[StreamPath], StreamPath | None]:
        """The next paths that may be listed, and up to where was looked; None: to the end."""
        chosen: list[StreamPath] = []
        looked_at = 0
        while not most or looked_at < most:
            index = await self._listed.paths()  # again, as it may have been thrown away
            asked = limit - len(chosen) if may is None else _LOOKED_AT_ONCE
            asked = min(asked, most - looked_at) if most else asked
            found = index.behind(after, prefix, asked)
            for path in found:
                if may is None or may(path):
                    chosen.append(path)
                    if len(chosen) == limit:
                        return chosen, path
            if len(found) < asked:
                return chosen, None
            after = found[-1]
            looked_at += asked
            await asyncio.sleep(0)
        return chosen, after

    async def _rows(self, paths: Sequence[StreamPath]) -> list[Row]:
        """The rows of some paths, in their order."""
        known: dict[StreamPath, Row | None] = {}
        for path in paths:
            self._look(path, known)
        unknown = [path for path in paths if path not in known]
        if unknown:
            async with self._turns:
                known.update(await self._core.run(self._on_disk, unknown))
        return [row for row in map(known.get, paths) if row is not None]

    def _look(self, path: StreamPath, known: dict[StreamPath, Row | None]) -> None:
        """What memory tells of the stream at a path, if it does; None: it is not listed."""
        core, now_ms = self._core, self._core.now_ms()
        stream = core.catalog.known(path)
        if stream is not None and not _is_listed(stream, now_ms):
            known[path] = None
            return
        error = core.catalog.outages.error(path, stream.id if stream else None)
        if error is not None:
            known[path] = UnusableRow(path, str(error))
        elif stream is not None:
            known[path] = stream.row(now_ms)

    def _on_disk(self, paths: Sequence[StreamPath]) -> dict[StreamPath, Row | None]:
        """The rows of streams that are not open; blocks."""
        directory = self._core.directory
        found = {path: self._row_on_disk(path) for path in paths}
        if not directory.is_there():
            raise Unavailable("the data directory cannot be reached")
        self._core.runtime.pause(self._core.tuning.rows_pause_s)
        return found

    def _row_on_disk(self, path: StreamPath) -> Row | None:
        directory = self._core.directory
        try:
            home = directory.stream_directory(path)
            return row_on_disk(directory.disk, home, path, self._core.now_ms())
        except FileNotFoundError:  # it was deleted meanwhile, or an opening says what is missing
            return None
        except DamagedFiles as error:
            return UnusableRow(path, f"damaged: {directory.within(str(error))}")
        except OSError as error:
            if error.errno in NO_DESCRIPTORS:  # which is no matter of the stream
                raise
            return UnusableRow(path, f"its files cannot be read: {error.strerror or error}")


def _is_listed(stream: Stream, now_ms: int) -> bool:
    if stream.state is Life.COMING or RULES[stream.state].reads is not None:
        return False
    return not (stream.is_mortal and stream.is_expired(now_ms))
