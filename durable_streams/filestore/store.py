"""The store of streams in plain files: its verbs, and its life from opening to closing.

Each write is admitted, decided in one step without ``await``, submitted, and answered when it is
durable.  An answer that depends on a decision still on its way (a duplicate, a conflict with it)
waits until that is durable as well: no crash can make it untrue.  Cancelling a caller cancels
only its wait: what was sent on its way goes on, what was not never will.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from durable_streams.filestore.core import Core
from durable_streams.filestore.files.disk import Disk
from durable_streams.filestore.numbers import numbers_of
from durable_streams.filestore.opening import close_unused
from durable_streams.filestore.runtime.closing import Closing, in_turn
from durable_streams.filestore.runtime.errands import Errands
from durable_streams.filestore.runtime.machine import Runtime
from durable_streams.filestore.runtime.supervisor import Supervisor
from durable_streams.filestore.streams.life import LIVE
from durable_streams.filestore.streams.payloads import LARGE_BODY
from durable_streams.filestore.streams.stream import Stream, own
from durable_streams.filestore.succession import open_in_turn
from durable_streams.filestore.tuning import Tuning
from durable_streams.filestore.verbs.access import Access
from durable_streams.filestore.verbs.appends import Appends
from durable_streams.filestore.verbs.births import Births
from durable_streams.filestore.verbs.endings import Endings
from durable_streams.filestore.verbs.inspections import Inspections
from durable_streams.filestore.verbs.lifetimes import Reclaimer
from durable_streams.filestore.verbs.listed_paths import ListedPaths
from durable_streams.filestore.verbs.listing import Listing
from durable_streams.filestore.verbs.quotas import Quotas
from durable_streams.filestore.verbs.tickets import Errand
from durable_streams.filestore.verbs.uses import Uses
from durable_streams.filestore.verbs.verification import Verifier
from durable_streams.live import NOBODY
from durable_streams.model.errors import (
    Draining,
    NotOpen,
    PayloadTooLarge,
    StreamNotFound,
    StreamUnusable,
)
from durable_streams.model.paths import path_text
from durable_streams.model.results import UnusableRow
from durable_streams.rules.appends import check_syntax

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from contextlib import AbstractContextManager
    from pathlib import Path

    from durable_streams.filestore.files.recovery import Recovery
    from durable_streams.filestore.pipeline.operations import AppendOperation
    from durable_streams.filestore.runtime.closing import Step
    from durable_streams.filestore.verbs.tickets import Decided
    from durable_streams.measuring import StoreNumbers
    from durable_streams.model.commands import Append, Create, Place
    from durable_streams.model.details import StreamDetails
    from durable_streams.model.errors import StorageFailed, StreamError
    from durable_streams.model.offsets import Offset, Start
    from durable_streams.model.paths import StreamPath
    from durable_streams.model.records import RecordsPage
    from durable_streams.model.results import (
        Appended,
        Chunk,
        Created,
        NodeSeen,
        StreamInfo,
        StreamPage,
        StreamRef,
        Subscriber,
    )
    from durable_streams.settings import Settings
    from durable_streams.store import Store


class FileStore:
    """An open data directory and its streams; use :meth:`at` and :meth:`close`."""

    def __init__(self, core: Core, recovery: Recovery) -> None:
        self.settings = core.settings
        self.max_append_bytes = core.settings.max_append_bytes
        self.remember_removed_s = core.settings.remember_removed_s
        self.root = core.directory.root
        self.recovery = str(recovery)
        self._recovery = recovery
        self._core = core
        self._access = Access(core)
        self._appends = Appends(core, self._access)
        self._errands = Errands()
        self._listed = ListedPaths(core, self._errands)
        self._listing = Listing(core, self._listed)
        self._quotas = Quotas(core, self._errands, self._listed)
        self._endings = Endings(core, self._quotas)
        self._births = Births(core, self._errands, self._quotas, self._endings.end)
        self._uses = Uses(core, self._endings)
        self._inspections = Inspections(core, self._access)
        core.catalog.leaving = self._uses.write
        core.catalog.mortal_came = self._uses.watch
        core.catalog.opened = self._listed.came
        watch = core.supervisor.watch
        self._tasks = [
            watch("uses", self._uses.run()),
            watch("reclaimer", self._reclaimer().run()),
            watch("listed paths", self._listed.run()),
        ]
        if core.catalog.verifying:
            self._tasks.append(watch("verifier", Verifier(core).run(), ends=True))
        self._closing = Closing(self.drain, self._steps_of_closing())

    @classmethod
    async def at(
        cls,
        data_dir: Path,
        settings: Settings,
        disk: Disk | None = None,
        runtime: Runtime | None = None,
        tuning: Tuning = Tuning(),
    ) -> FileStore:
        """Lock, recover and open; ``DataDirectoryError`` says why it cannot be."""
        runtime = runtime or Runtime()
        supervisor = Supervisor(runtime)
        opening = None
        try:
            opening = await open_in_turn(supervisor, disk or Disk(), data_dir, settings, tuning)
            directory, journal, recovery = opening.result()
            core = Core(
                directory,
                settings,
                runtime,
                supervisor,
                journal,
                tuning=tuning,
                verify=recovery.unsynced,
                outages=recovery.kept,
                removed=recovery.removed,
            )
            return cls(core, recovery)
        except BaseException:
            supervisor.abandon()
            if opening is not None:
                close_unused(opening)
            raise

    # -- writes ----------------------------------------------------------------------------

    async def create(self, command: Create, body: bytes) -> Created:
        """PUT; durable when this returns."""
        self._check_body(body)
        await self._core.admission.admit()
        return await self._births.create(command, body)

    def create_now(self, command: Create, body: bytes) -> Errand[Created] | None:
        """Begin :meth:`create`, which goes on whatever its caller does; None before its turn.

        And for a large body, which would stay in memory when its caller has left, or while streams
        are counted, as callers may be many that come and leave meanwhile.
        """
        self._check_body(body)
        is_open = self._core.admission.is_open() and self._quotas.is_known(command.path)
        if len(body) > LARGE_BODY or not is_open:
            return None
        return Errand(self._errands.begin(self._births.create(command, body)))

    async def append(self, command: Append, body: bytes) -> Appended:
        """POST: append, close, or both in one step; durable when this returns."""
        ticket = self.append_now(command, body)
        if ticket is None:
            ticket = await self._appends.in_line(command, body)
        await ticket.wait()
        return ticket.outcome()

    def append_now(self, command: Append, body: bytes) -> AppendOperation | Decided | None:
        """Decide about an append; None if that takes a wait, and :meth:`append` has to be used."""
        check_syntax(command, bool(body))
        if type(body) is not bytes or len(body) > self.max_append_bytes:
            self._check_body(body)
        core, appends = self._core, self._appends
        stream = core.catalog.ready(command.path)
        if (
            stream is None
            or len(body) > LARGE_BODY
            or (appends.turns.taken and command.path in appends.turns.taken)
            or not core.admission.is_open()
        ):
            return None
        return appends.decide(stream, command, body)

    async def delete(self, path: StreamPath) -> None:
        """DELETE; durable when this returns."""
        await self._core.admission.admit(frees=True)
        stream = await self._find(path)
        self._access.check(stream)
        await self._errands.do(self._endings.end(stream))

    async def nodes(self) -> list[NodeSeen]:
        """None: a data directory has one server."""
        return []

    def writes_wait(self) -> bool:
        """Whether a write that comes now waits for the streams' files, which lag behind."""
        return self._core.pipeline.is_held_up()

    def _check_body(self, body: bytes) -> None:
        if type(body) is not bytes:  # what is shared or can be changed would harm all writers
            raise TypeError(f"a body must be bytes, not {type(body).__name__}")
        if len(body) > self.max_append_bytes:
            raise PayloadTooLarge(self.max_append_bytes)

    # -- reads -----------------------------------------------------------------------------

    async def head(self, path: StreamPath) -> StreamInfo:
        """HEAD; renews nothing."""
        stream = await self._find(path)
        self._access.check(stream)
        return stream.info()

    async def records(self, path: StreamPath, place: Place, limit: int) -> RecordsPage:
        """Some of what was appended; renews nothing."""
        return await self._inspections.records(await self._find(path), place, limit)

    async def details(self, path: StreamPath) -> StreamDetails | UnusableRow:
        """All that is known of a stream; renews nothing."""
        try:
            return await self._inspections.details(await self._find(path))
        except StreamUnusable as error:
            return UnusableRow(path, str(error))

    async def list_streams(
        self,
        prefix: StreamPath,
        after: StreamPath,
        limit: int,
        *,
        may: Callable[[StreamPath], bool] | None = None,
        most: int = 0,
    ) -> StreamPage:
        """Some streams in the order of their paths; renews nothing."""
        if self._access.closed:
            raise NotOpen
        return await self._listing.page(prefix, after, limit, may, most)

    def open_now(self, path: StreamPath) -> StreamRef | None:
        """:meth:`open` if nothing has to be waited for, else None."""
        stream = self._core.catalog.ready(path)
        if stream is not None and (
            stream.is_mortal or stream.state is not LIVE or self._access.closed
        ):
            self._access.use(stream)
        return stream

    async def open(self, path: StreamPath) -> StreamRef:
        """The stream at a path, for reading; renews a sliding TTL."""
        stream = self._core.catalog.ready(path) or await self._find(path)
        self._access.use(stream)
        return stream

    def following(self, stream: StreamRef) -> AbstractContextManager[None]:
        """A context that a live reader is in: meanwhile a TTL does not end the stream."""
        return self._uses.following(own(stream))

    def left_s(self, stream: StreamRef) -> int | None:
        """Seconds, rounded down, until the stream ends if nobody uses it; None: it does not."""
        now_ms = self._core.now_ms()
        end_ms = own(stream).ends_at_ms(now_ms)
        return None if end_ms is None else max(0, end_ms - now_ms) // 1000

    def read_now(self, stream: StreamRef, start: Offset | Start) -> Chunk | None:
        """:meth:`read` of a small chunk if nothing has to be waited for, else None.

        In the turn in which the stream was opened.
        """
        if not isinstance(stream, Stream):
            raise TypeError("not a stream of this store")
        if stream.state is not LIVE or self._access.closed:
            self._access.check_there(stream)
        return self._core.reader.read_now(stream, start)

    async def read(
        self,
        stream: StreamRef,
        start: Offset | Start,
        *,
        is_end: bool = False,
        max_bytes: int | None = None,
    ) -> Chunk:
        """A bounded chunk from an offset, empty at the tail; the caller releases it.

        ``is_end``: a chunk or publication ended there, so it needs no looking up.  ``max_bytes``:
        less than ``max_read_bytes``, but an append that has more comes whole.
        """
        opened = own(stream)
        self._access.check(opened)
        with self._access.reading(opened):
            return await self._core.reader.read(opened, start, is_end=is_end, max_bytes=max_bytes)

    async def bytes_of(self, chunk: Chunk) -> bytes:
        """All bytes of a chunk."""
        read = self._core.reader.read_slice
        return b"".join(
            [part if isinstance(part, bytes) else await read(part) for part in chunk.parts]
        )

    async def pieces(self, chunk: Chunk, size: int) -> AsyncIterator[bytes]:
        """The bytes of a chunk, so many at a time, each read when it is asked for.

        The chunk's parts are given up: a reader that takes its time keeps nothing in memory.
        """
        stream = own(chunk.stream)
        chunk.release()
        chunk.parts = ()
        segment, end = chunk.end
        for begin in range(end - chunk.size_bytes, end, size):
            stop = min(begin + size, end)
            with self._access.reading(stream):
                piece = await self._core.reader.bytes_of(stream, segment, begin, stop)
            yield piece

    async def sizes(self, chunk: Chunk) -> list[int]:
        """How many bytes of a chunk each append in it has, in order."""
        return await self._core.reader.sizes(chunk)

    async def wait(self, stream: StreamRef, at: Offset, timeout_s: float) -> bool:
        """Wait until there is data past ``at`` or the stream is closed.

        False after the timeout, or when the store drains; raises if the stream ends.
        """
        opened = own(stream)
        self._access.check(opened)
        if opened.durable.offset > at or opened.durable.closed:
            return True
        if self._core.admission.draining:
            return False
        audience = opened.audience
        if audience is NOBODY:
            audience = opened.followed(self._core.deliveries)
        return await audience.wait(timeout_s) or opened.durable.offset > at

    def subscribe(self, stream: StreamRef, at: Offset, subscriber: Subscriber) -> bool:
        """Hand all publications from ``at`` on to a subscriber; False if that is not the tail."""
        opened = own(stream)
        self._access.check(opened)
        if self._core.admission.draining:
            raise Draining
        if opened.durable.offset != at or opened.durable.closed:
            return False
        opened.followed(self._core.deliveries).join(subscriber)
        return True

    def unsubscribe(self, stream: StreamRef, subscriber: Subscriber) -> None:
        """Stop that; no error if it had stopped."""
        own(stream).audience.leave(subscriber)

    # -- looking up ------------------------------------------------------------------------

    async def _find(self, path: StreamPath) -> Stream:
        stream = await self._core.catalog.find(path)
        if stream is None:
            raise StreamNotFound(path_text(path))
        return stream

    def _reclaimer(self) -> Reclaimer:
        core, reclaim = self._core, self._uses.reclaim
        return Reclaimer(core.directory, core.executor, core.settings, core.runtime, reclaim)

    # -- going down ------------------------------------------------------------------------

    def refusal(self) -> StreamError | None:
        """Why no write is taken now; None if writes are."""
        return self._core.admission.refusal()

    def out_of_service(self) -> list[StreamPath]:
        """Paths of streams whose files cannot be read or written now."""
        return sorted(self._core.catalog.outages.errors)

    @property
    def numbers(self) -> StoreNumbers:
        """What was counted since the data directory was opened, as it is now."""
        return numbers_of(self._core, self._recovery, self._appends.duplicates)

    @property
    def fault(self) -> StorageFailed | None:
        """The final failure of the disk, if there was one."""
        return self._core.health.fault

    @property
    def bug(self) -> StorageFailed | None:
        """Why a thread or task of the store ended, if one did: only a restart helps."""
        return self._core.health.bug

    def drain(self) -> None:
        """Refuse new writes, end waits and subscriptions; what was accepted goes on."""
        if self._core.admission.draining:
            return
        self._uses.write_all()
        self._core.drain()
        for stream in self._core.catalog.streams():
            if stream.audience:
                stream.audience.drain(Draining())

    @property
    def closed(self) -> bool:
        """Whether :meth:`close` is done."""
        return self._access.closed

    @property
    def closing(self) -> bool:
        """Whether :meth:`close` is under way, or done."""
        return self._closing.has_begun

    async def close(self) -> None:
        """Drain, finish, checkpoint, and give up the data directory.

        All of that is done when this returns, or raises ``CancelledError`` because its caller was
        cancelled meanwhile, once or many times; see ``filestore.runtime.closing``.
        :class:`OpenedElsewhere` in a forked process, which would wait for threads it has not.
        """
        self._core.supervisor.process.check()
        await self._closing.finish()

    def _steps_of_closing(self) -> list[Step]:
        core = self._core
        return [
            core.deliveries.finished,
            lambda: core.supervisor.stop(*self._tasks),
            self._errands.finished,
            self._endings.finished,
            *core.steps_of_closing(),
            in_turn(lambda: setattr(self._access, "closed", True)),
        ]

    def abandon(self) -> None:
        """Give up the data directory as a crash would, while the process goes on; blocks.

        For when nobody is there to close it: its loop does nothing, or nobody uses it.
        """
        self._access.closed = True
        self._core.abandon()

    def cancel_tasks(self) -> None:
        """End what still runs on the loop, after that."""
        self._core.supervisor.cancel_tasks()
        self._errands.cancel()


if TYPE_CHECKING:
    _: type[Store] = FileStore  # all that a store promises is here
