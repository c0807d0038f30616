"""The files of deleted streams: removed in the background, one stream after the other.

``trash/`` itself is the list of what is to be done.  A deleted fork stays in it until its source
has been *released*, as a source that was deleted before is to go with its last fork.  So an end of
the server in the middle of a long chain leaves where to go on: with what is in ``trash/``.

Owned by the event loop.  At most ``Tuning.most_in_trash`` streams are remembered here; if more
wait, they are found in ``trash/`` again when those are gone.  While the data directory cannot be
reached they wait.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import aiofiles.os

from durable_streams.filestore.files import whole_files
from durable_streams.filestore.files.aside import move_aside
from durable_streams.filestore.files.fork_marks import remove_mark
from durable_streams.filestore.files.stream_files import DamagedFiles, NewerFiles, load_sidecar
from durable_streams.filestore.format.stored_path import stored_text
from durable_streams.model.errors import DiskFull, StreamError, Unavailable
from durable_streams.settings import Durability

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from durable_streams.filestore.core import Core
    from durable_streams.filestore.format.sidecar import ForkOrigin

_LOOK_AGAIN_S: Final = 0.5  # whether a data directory is there again

_remove_tree = aiofiles.os.wrap(whole_files.remove_tree)

log = logging.getLogger("durable_streams.filestore")


@dataclass(slots=True)
class Deleted:
    """A deleted stream, on its way.

    ``keep``: its files go to ``aside/``.  ``released``: its source was seen to, if it has one.
    ``in_trash``: its directory has got there.  ``held``: somebody sees to its source now.
    """

    stream_id: str
    keep: bool = False
    released: bool = False
    in_trash: bool = False
    held: bool = True


class Trash:
    """Removes the files of deleted streams."""

    def __init__(self, core: Core, release: Callable[[ForkOrigin], Awaitable[None]]) -> None:
        """``release`` sees to the source of a fork that is gone."""
        self._core = core
        self._release = release
        self._most = core.tuning.most_in_trash
        self._held: set[str] = set()
        self._waiting: deque[Deleted] = deque()
        self._failed: set[str] = set()
        self._has_more = True  # what an earlier run left
        self._ending = False
        self._work = asyncio.Event()
        self._work.set()
        self._task = core.supervisor.watch("trash", self._run(), ends=True)

    def __len__(self) -> int:
        return len(self._waiting)

    def expect(self, deleted: Deleted) -> None:
        """A stream's deletion is on its way."""
        self._held.add(deleted.stream_id)

    def forget(self, deleted: Deleted) -> None:
        """Its deletion has failed."""
        self._held.discard(deleted.stream_id)

    def arrived(self, deleted: Deleted) -> None:
        """Its directory is in ``trash/``."""
        deleted.in_trash = True
        self._take(deleted)

    def let_go(self, deleted: Deleted) -> None:
        """Nobody sees to its source any more."""
        deleted.held = False
        self._take(deleted)

    def _take(self, deleted: Deleted) -> None:
        if deleted.held or not deleted.in_trash:
            return
        self._held.discard(deleted.stream_id)
        if len(self._waiting) < self._most or deleted.keep:
            self._waiting.append(deleted)
        else:
            self._has_more = True
        self._work.set()

    async def finished(self) -> None:
        """Remove what waits, but for forks whose sources wait: the next start sees to those."""
        self._ending = True
        self._work.set()
        await asyncio.wait([self._task])

    async def _run(self) -> None:
        while True:
            while self._waiting:
                await self._directory_there()
                await self._see_off(self._waiting.popleft())
            if self._ending:
                return
            if self._has_more:
                await self._directory_there()
                await self._look()
            else:
                self._work.clear()
                await self._work.wait()

    def _is_directory_away(self) -> bool:
        return isinstance(self._core.admission.full, Unavailable)

    async def _directory_there(self) -> None:
        """Return when the data directory can be reached, as far as is known, or at the end."""
        while self._is_directory_away() and not self._ending:
            self._work.clear()
            with suppress(asyncio.TimeoutError):
                await asyncio.wait_for(self._work.wait(), _LOOK_AGAIN_S)

    async def _look(self) -> None:
        """Find what is in ``trash/``."""
        core, most = self._core, self._most + len(self._failed) + len(self._held)
        self._has_more = False
        try:
            found = await core.run(core.directory.disk.some_names, core.directory.trash, most)
        except OSError as error:
            log.warning("cannot remove what is left of deleted streams: %s", error)
            return
        known = self._failed | self._held | {deleted.stream_id for deleted in self._waiting}
        for name in found:
            if name not in known:
                self._waiting.append(Deleted(name, in_trash=True, held=False))
        self._has_more = len(found) == most and len(self._failed) < self._most

    async def _see_off(self, deleted: Deleted) -> None:
        """Release a stream's source, then remove its files."""
        core, name = self._core, deleted.stream_id
        try:
            if core.settings.durability is not Durability.FSYNC:
                # The journal may forget the deletion; then the stream must come back whole.
                await core.run(core.directory.disk.sync_directory, core.directory.trash)
            origin = await core.run(self._origin, name)
            if origin is not None and not deleted.released:
                refusal = core.admission.refusal()
                if refusal is not None and not isinstance(refusal, DiskFull):
                    if self._is_directory_away() and not self._ending:
                        self._waiting.appendleft(deleted)
                    return  # the next start does it
                await self._try_to_release(origin)
            await self._remove(name, keep=deleted.keep)
        except OSError as error:
            self._could_not(name)
            log.warning("cannot remove what is left of a deleted stream, %s: %s", name, error)

    def _could_not(self, name: str) -> None:
        """Something could not be removed: it is not looked for again; the next start tries it."""
        if len(self._failed) < self._most:
            self._failed.add(name)

    def _origin(self, name: str) -> ForkOrigin | None:
        """Where a stream in the trash was forked from; its source needs no mark of it; blocks."""
        directory = self._core.directory
        try:
            sidecar = load_sidecar(directory.disk, directory.trash / name)
        except (DamagedFiles, NewerFiles):
            return None
        if sidecar is None or sidecar.fork is None:
            return None
        home = directory.home_of(sidecar.fork.source)
        try:
            # Where the journal is not synced first, nothing else would make it last.
            sync = self._core.settings.durability is not Durability.FSYNC
            remove_mark(directory.disk, home, sidecar.fork.source_id, sidecar.id, sync=sync)
        except OSError as error:  # it says where a fork was: whoever looks there finds none
            source = stored_text(sidecar.fork.source)
            log.warning("stream %s keeps the mark of a fork: %s", source, error)
        return sidecar.fork

    async def _try_to_release(self, origin: ForkOrigin) -> None:
        try:
            await self._release(origin)
        except (StreamError, OSError) as error:  # the walk over the streams comes by
            source = stored_text(origin.source)
            log.warning("the source %s was not told of a fork's end: %s", source, error)

    async def _remove(self, name: str, *, keep: bool) -> None:
        """Remove a deleted stream's files, or keep them: the clock cannot be relied on."""
        core = self._core
        disk, path = core.directory.disk, core.directory.trash / name
        if keep:
            log.warning(
                "an expired stream was replaced soon after a start, or a jump of the clock: "
                "what it held is kept in %s",
                await core.run(move_aside, core.directory, path),
            )
            return
        await _remove_tree(disk, path, executor=core.executor)
