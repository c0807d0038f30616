"""How streams end: deletion, soft deletion while forks need the data, and what that frees.

A source knows its forks by id and path; whether one still lives is looked up when it matters, so
that a crash between two steps leaves nothing that is not put right later.
"""

from __future__ import annotations

import asyncio
import logging
from contextlib import suppress
from typing import TYPE_CHECKING

import aiofiles.os
import msgspec

from durable_streams.engine.births import sidecar_record
from durable_streams.engine.operations import DeleteOperation, SidecarOperation
from durable_streams.errors import StreamError, StreamGone, StreamNotFound, StreamUnusable
from durable_streams.settings import Durability
from durable_streams.storage import disk as disks
from durable_streams.storage.aside import move_aside
from durable_streams.storage.format import journal as fmt

if TYPE_CHECKING:
    from durable_streams.engine.core import Core
    from durable_streams.engine.stream import Stream

_remove_tree = aiofiles.os.wrap(disks.remove_tree)

log = logging.getLogger("durable_streams.engine")


class Endings:
    """The verb ``delete``, and changes of sidecars."""

    def __init__(self, core: Core) -> None:
        self._core = core
        self._removals: set[asyncio.Task[None]] = set()

    async def end(self, stream: Stream) -> None:
        """Delete a stream; soft-delete it while forks need it.  Then the same for its source.

        Raises what it ended with if somebody else deleted it first, durably: ``StreamGone`` if
        forks need it still.
        """
        going = self._core.catalog.going.get(stream)
        if going is not None:  # those who only clear away have nothing to end if it fails
            await going.wait()
        while True:
            known = set(stream.sidecar.forks)
            alive = await self._living_forks(stream)
            if stream.ended is not None:
                if stream.last_operation is not None:
                    await stream.last_operation.wait()
                raise stream.ended
            if known == set(stream.sidecar.forks):
                break
        if alive or stream.building:
            await self._soft_delete(stream, alive)
            return
        operation = self._delete(stream)
        await operation.wait()
        try:
            await self._release_source(stream)
        except (
            StreamError,
            OSError,
        ) as error:  # the stream is deleted all the same; the source waits
            log.warning("the source of %s was not told of its end: %s", stream.path, error)

    async def _living_forks(self, stream: Stream) -> dict[str, str]:
        alive: dict[str, str] = {}
        for fork_id, path in list(stream.sidecar.forks.items()):
            try:
                fork = await self._core.catalog.find(path)
            except StreamUnusable:
                alive[fork_id] = path
                continue
            if fork is not None and fork.id == fork_id:
                alive[fork_id] = path
        return alive

    def _delete(self, stream: Stream) -> DeleteOperation:
        core = self._core
        reason = StreamNotFound(stream.path)
        expired = stream.is_expired(core.now_ms()) and not stream.sidecar.soft_deleted
        keep = expired and not core.clock.is_reliable

        def restore() -> None:
            stream.ended = None
            core.catalog.restore(stream)

        def buried() -> None:
            core.catalog.buried(stream)
            core.reader.forget(stream)
            self._discard(stream.id, keep=keep)

        operation = DeleteOperation(
            stream,
            (fmt.DeleteRecord(stream.path, stream.id),),
            reason=reason,
            restore=restore,
            buried=buried,
        )
        stream.ended = reason
        core.catalog.bury(stream)
        core.submit(operation)
        return operation

    async def _soft_delete(self, stream: Stream, forks: dict[str, str]) -> None:
        reason, going = StreamGone(stream.path), self._core.catalog.going
        if stream.sidecar.soft_deleted:
            if stream in going:
                await going[stream].wait()
            raise reason
        operation = self.change(stream, soft_deleted=True, forks=forks)
        going[stream] = operation

        def settled() -> None:
            del going[stream]
            if operation.error is None:
                stream.audience.end(reason)

        operation.when_settled(settled)
        await operation.wait()

    async def _release_source(self, fork: Stream) -> None:
        """A fork is gone: its source need not keep data for it."""
        origin = fork.sidecar.fork
        if origin is None:
            return
        try:
            source = await self._core.catalog.find(origin.source)
        except StreamUnusable:
            return
        if source is None or fork.id not in source.sidecar.forks:
            return
        forks = {key: path for key, path in source.sidecar.forks.items() if key != fork.id}
        await self.change(source, forks=forks).wait()
        if source.sidecar.soft_deleted and source.ended is None:
            with suppress(StreamGone):  # other forks need it
                await self.end(source)

    def change(self, stream: Stream, **changes: object) -> SidecarOperation:
        """Give a stream a new version of its sidecar."""
        before = stream.sidecar
        stream.sidecar = msgspec.structs.replace(
            before, version=before.version + 1, last_use_ms=stream.last_use_ms, **changes
        )
        operation = SidecarOperation(stream, (sidecar_record(stream),), before)
        self._core.submit(operation)
        return operation

    def _discard(self, name: str, *, keep: bool) -> None:
        """Remove a deleted stream's files in the background, or ``keep`` them in ``aside/``."""
        task = asyncio.create_task(self._set_aside(name) if keep else self._remove(name))
        self._removals.add(task)
        task.add_done_callback(self._removals.discard)

    async def _remove(self, name: str) -> None:
        trash = self._core.directory.trash
        path = trash / name
        try:
            if self._core.settings.durability is not Durability.FSYNC:
                # The journal may forget the deletion; then the stream must come back whole.
                await self._core.run(self._core.directory.disk.sync_directory, trash)
            await _remove_tree(self._core.directory.disk, path, executor=self._core.executor)
        except OSError as error:
            log.warning("cannot remove %s: %s", path, error)

    async def _set_aside(self, name: str) -> None:
        """Keep what an expired stream held: the clock that said so cannot be relied on."""
        core = self._core
        path = core.directory.trash / name
        try:
            kept = await core.run(move_aside, core.directory, path)
        except OSError as error:
            log.warning("cannot keep %s: %s", path, error)
        else:
            log.warning(
                "an expired stream was replaced soon after a start, or a jump of the clock: "
                "what it held is kept in %s",
                kept,
            )

    async def empty_trash(self) -> None:
        """Remove what an earlier run left."""
        core = self._core
        try:
            left = await core.run(core.directory.disk.names, core.directory.trash)
        except OSError as error:
            log.warning("cannot remove what is left of deleted streams: %s", error)
            return
        for name in left:
            await self._remove(name)

    async def finished(self) -> None:
        """Return when no files are being removed."""
        if self._removals:
            await asyncio.wait(self._removals)
