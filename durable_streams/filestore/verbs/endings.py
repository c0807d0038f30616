"""How streams end: deletion, soft deletion while forks need the data, and what that frees.

A source has a mark of each fork (``files.fork_marks``) that says where it is; whether it still
lives is looked up when it matters, so that a crash between two steps leaves nothing that is not put
right later.  Whatever is done for a source takes as long with one fork as with many.

A source that was deleted ends with its last fork, and its own source perhaps with it, and so on.
That is a loop of one deletion after the other.  Whoever began it waits for ``STEPS_AT_ONCE`` of
them; the rest follows in the background (``trash``).
"""

from __future__ import annotations

import asyncio
import logging
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Final
from weakref import WeakKeyDictionary

import msgspec

from durable_streams.filestore.files.directory import FULL
from durable_streams.filestore.files.fork_marks import carry_over, some_marks
from durable_streams.filestore.format import journal as fmt
from durable_streams.filestore.format import sidecar as sidecar_format
from durable_streams.filestore.format.sidecar import NO_FORKS
from durable_streams.filestore.format.stored_path import unpack_path
from durable_streams.filestore.pipeline.operations import (
    DeleteOperation,
    SidecarOperation,
    SoftDeleteOperation,
)
from durable_streams.filestore.streams.life import LIVE, RULES, Life
from durable_streams.filestore.verbs.trash import Deleted, Trash
from durable_streams.model.commands import FOREVER
from durable_streams.model.errors import (
    DiskFull,
    StreamError,
    StreamGone,
    StreamNotFound,
    StreamUnusable,
    WriteFailed,
)
from durable_streams.model.paths import path_text

if TYPE_CHECKING:
    from collections.abc import Iterator

    from durable_streams.filestore.core import Core
    from durable_streams.filestore.format.sidecar import ForkOrigin
    from durable_streams.filestore.streams.stream import Stream
    from durable_streams.filestore.verbs.quotas import Quotas
    from durable_streams.model.paths import StreamPath

STEPS_AT_ONCE: Final = 64
"""How many sources a deletion may take along before it is answered."""

_MARKS_AT_ONCE: Final = 4
"""Marks of forks that are read first; twice as many each time if none of those forks lives."""

log = logging.getLogger("durable_streams.filestore")


class Endings:
    """The verb ``delete``, and changes of sidecars."""

    def __init__(self, core: Core, quotas: Quotas) -> None:
        self._core = core
        self._quotas = quotas
        self._trash = Trash(core, self._release_later)
        self._carrying: WeakKeyDictionary[Stream, asyncio.Lock] = WeakKeyDictionary()

    async def end(self, stream: Stream) -> None:
        """Delete a stream; soft-delete it while forks need it.  Then the same for its source.

        Raises what it ended with if somebody else deleted it first, durably: ``StreamGone`` if
        forks need it still.
        """
        deleted = await self._end_alone(stream)
        if deleted is not None:
            await self._release_sources(stream, deleted)

    async def _end_alone(self, stream: Stream) -> Deleted | None:
        """:meth:`end` without the source; None if forks need it."""
        while True:
            if stream.change is not None and stream.state is Life.GOING_SOFTLY:
                await stream.change.wait()  # who only clear away have nothing to end if it fails
            needed = await self._is_needed(stream)
            if needed or stream.state is not Life.GOING_SOFTLY:
                break
        if RULES[stream.state].has_ended:
            if stream.change is not None:
                await stream.change.wait()
            raise StreamNotFound(path_text(stream.path))
        if needed:
            await self._soft_delete(stream)
            return None
        deleted, operation = self._delete(stream)
        await operation.wait()
        return deleted

    # -- forks that live -------------------------------------------------------------------

    async def _is_needed(self, stream: Stream) -> bool:
        """Whether a fork lives or is being made.

        When this returns, nothing has happened since the answer was right.
        """
        while stream.forked and not stream.building:
            made = stream.forks_made
            with self._looking_at_forks(stream):
                alive = await self._has_living_fork(stream)
            if alive or made == stream.forks_made:
                stream.forked = alive or stream.building > 0
                break
        return stream.forked or stream.building > 0

    async def _has_living_fork(self, stream: Stream) -> bool:
        core = self._core
        disk, home = core.directory.disk, core.directory.stream_directory(stream.path)
        if stream.sidecar.forks:
            await self._carry_over(stream, home)
        dead: set[str] = set()
        most = _MARKS_AT_ONCE
        while marks := await core.run(some_marks, disk, home, stream.id, most, dead):
            for fork_id, path in marks:
                if path is not None and await self._lives(stream, fork_id, path):
                    return True
                dead.add(fork_id)
            most = _MARKS_AT_ONCE + 2 * len(dead)
        return False

    async def _lives(self, source: Stream, fork_id: str, path: StreamPath) -> bool:
        try:
            fork = await self._core.catalog.find(path)
        except StreamUnusable:
            return True
        except (DiskFull, WriteFailed):  # it was being put in place, and was not stored
            return False
        if fork is None or fork.id != fork_id or fork.sidecar.fork is None:
            return False
        return fork.sidecar.fork.source_id == source.id

    async def _carry_over(self, stream: Stream, home: str) -> None:
        """Have marks of the forks that version 0.1 wrote down in the sidecar.

        One at a time for a stream: whoever asks meanwhile must not look at half of the marks.
        """
        core, disk = self._core, self._core.directory.disk
        async with self._carrying.setdefault(stream, asyncio.Lock()):
            forks = stream.sidecar.forks
            if not forks:
                return
            try:
                await core.run(carry_over, core.directory, home, stream.id, forks)
            except FileNotFoundError:
                if await core.run(disk.is_directory, home):
                    raise
                return  # it was deleted meanwhile
            if not RULES[stream.state].has_ended:
                await self.change(stream, forks=NO_FORKS).wait()

    @contextmanager
    def _looking_at_forks(self, stream: Stream) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            self._core.health.look_for_failed_sync()
            if error.errno in FULL:
                raise DiskFull("no space is left to write down its forks") from error
            reason = f"its forks cannot be looked at: {error}"
            raise StreamUnusable(path_text(stream.path), reason) from error

    # -- one stream ------------------------------------------------------------------------

    def _delete(self, stream: Stream) -> tuple[Deleted, DeleteOperation]:
        core = self._core
        expired = stream.is_expired(core.now_ms()) and stream.state is LIVE
        deleted = Deleted(stream.id, keep=expired and not core.clock.is_reliable)

        def restore() -> None:
            core.catalog.restore(stream)
            self._trash.forget(deleted)

        def unlinked() -> None:
            core.removed.remember(stream)  # from now on: until then there were readers
            core.catalog.unlinked(stream)
            core.reader.forget(stream)
            self._trash.arrived(deleted)

        operation = DeleteOperation(
            stream,
            (fmt.DeleteRecord(stream.stored, stream.id, core.removed.remember(stream)),),
            keep=deleted.keep,
            restore=restore,
            gone=lambda: self._quotas.gone(stream.path),
            unlinked=unlinked,
        )
        self._trash.expect(deleted)
        core.catalog.leaves(stream)
        core.pipeline.submit(operation)
        return deleted, operation

    async def _soft_delete(self, stream: Stream) -> None:
        if stream.state is not LIVE:
            if stream.change is not None:
                await stream.change.wait()
            raise StreamGone(path_text(stream.path))
        await self.change(stream, SoftDeleteOperation, soft_deleted=True).wait()

    # -- and its source, and so on ---------------------------------------------------------

    async def _release_sources(self, ended: Stream, deleted: Deleted) -> None:
        """A stream is gone: end the sources that only waited for that, or begin to."""
        chain = [deleted]
        try:
            while len(chain) <= STEPS_AT_ONCE and self._may_go_on():
                source = await self._release(ended.sidecar.fork)
                chain[-1].released = True
                if source is None:
                    break
                ended, deleted = source
                chain.append(deleted)
        except (StreamError, OSError) as error:
            # The stream is deleted all the same; its source waits.
            log.warning(
                "the source of %s was not told of its end: %s", path_text(ended.path), error
            )
        finally:
            for deleted in chain:
                self._trash.let_go(deleted)

    def _may_go_on(self) -> bool:
        refusal = self._core.admission.refusal()
        return refusal is None or isinstance(refusal, DiskFull)

    async def _release(self, origin: ForkOrigin | None) -> tuple[Stream, Deleted] | None:
        """A fork is gone; its source, if that ended with it."""
        if origin is None:
            return None
        try:
            source = await self._core.catalog.find(unpack_path(origin.source))
        except StreamUnusable:
            return None
        if source is None or source.id != origin.source_id:
            return None
        if source.state is LIVE:
            if source.sidecar.lifetime() is not FOREVER:
                await self._is_needed(source)  # once it has expired, forks make the difference
            return None
        with suppress(StreamGone, StreamNotFound):  # other forks need it, or somebody ended it
            deleted = await self._end_alone(source)
            return None if deleted is None else (source, deleted)
        return None

    async def _release_later(self, origin: ForkOrigin) -> None:
        """The same for a fork whose files are about to be removed."""
        source = await self._release(origin)
        if source is not None:
            await self._release_sources(*source)

    # -- sidecars --------------------------------------------------------------------------

    def change(
        self,
        stream: Stream,
        operation: type[SidecarOperation] = SidecarOperation,
        **changes: object,
    ) -> SidecarOperation:
        """Give a stream a new version of its sidecar."""
        before = stream.sidecar
        stream.sidecar = sidecar = msgspec.structs.replace(
            before, version=before.version + 1, last_use_ms=stream.last_use_ms, **changes
        )
        record = fmt.SidecarRecord(
            stream.stored, stream.id, sidecar.version, sidecar_format.pack(sidecar)
        )
        change = operation(stream, (record,), before)
        self._core.pipeline.submit(change)
        return change

    async def finished(self) -> None:
        """Return when no files are being removed."""
        await self._trash.finished()
