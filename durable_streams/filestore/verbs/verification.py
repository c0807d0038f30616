"""After an unclean end that may have lost unsynced bytes: every stream is verified once.

Whoever uses a stream has it verified at once (the catalogue does it when it opens one).  All others
are opened by a slow walk over the directories in the background.  When it has come to its end, all
that is there is made durable, and what is found damaged from then on is damage.  A walk that could
not look everywhere is made again; an end of the server in the middle leaves the mark, and the next
start begins anew.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING

from durable_streams.model.errors import StreamError, StreamUnreadable, StreamUnusable
from durable_streams.model.paths import path_text
from durable_streams.settings import Durability

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from durable_streams.filestore.core import Core
    from durable_streams.model.paths import StreamPath

log = logging.getLogger("durable_streams.filestore")


class Verifier:
    """Opens every stream once, slowly."""

    def __init__(self, core: Core) -> None:
        self._core = core
        self._problems = 0

    async def run(self) -> None:
        """Return when every stream was verified and is durable as it is."""
        core = self._core
        while True:
            await self._walk()
            if not self._problems:
                break
            await asyncio.sleep(core.tuning.verify_again_s)
        try:
            await core.run(self._finish)
        except OSError as error:
            core.health.look_for_failed_sync()
            log.error("streams were verified, but the mark of an unclean end stays: %s", error)
            return
        core.catalog.end_verifying()
        log.warning("all streams were verified after an unclean end")

    async def _walk(self) -> None:
        """Have every stream opened that can be; counts problems."""
        self._problems = 0
        loop, pause_s = self._core.loop, self._core.tuning.verify_pause_s
        walk = self._core.directory.stream_directories(self._not_listed)
        while (path := await self._core.run(self._next, walk)) is not None:
            began = loop.time()
            try:
                await self._core.catalog.find(path)
            except StreamUnreadable as error:  # perhaps it can be read the next time
                self._not_listed(path_text(path), error)
            except StreamUnusable:  # whoever asks for it is told the same
                pass
            except (StreamError, OSError) as error:
                self._not_listed(path_text(path), error)
            await asyncio.sleep(max(pause_s, loop.time() - began))

    def _next(self, walk: Iterator[Path]) -> StreamPath | None:
        """The path of the next stream, None at the end; blocks."""
        for directory in walk:
            path = self._core.directory.stream_path(directory)
            if path is not None:
                return path
        return None

    def _not_listed(self, what: Path | str, error: Exception) -> None:
        self._problems += 1
        log.warning("%s could not be verified, later again: %s", what, error)

    def _finish(self) -> None:
        """Make durable what is there, then forget the unclean end if this run cannot have one."""
        core = self._core
        core.directory.disk.sync_file_system(core.directory.root_fd)
        if core.settings.durability is Durability.FSYNC:
            core.directory.unmark_unsynced()
