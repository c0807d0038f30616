"""Creating streams, fresh or as forks."""

from __future__ import annotations

import asyncio
import errno
from contextlib import contextmanager, suppress
from functools import partial
from typing import TYPE_CHECKING

from durable_streams.filestore.catalog import damaged, unreadable
from durable_streams.filestore.files import whole_files
from durable_streams.filestore.files.disk import FailedRead
from durable_streams.filestore.files.fork_files import ForkPlan, build
from durable_streams.filestore.files.segments import beginning_at
from durable_streams.filestore.files.stream_files import DamagedFiles, LoadedStream
from durable_streams.filestore.format import journal as fmt
from durable_streams.filestore.format import sidecar as sidecar_format
from durable_streams.filestore.format.index import Tail, root_of
from durable_streams.filestore.format.sidecar import NO_FORKS, ForkOrigin, Sidecar, requested
from durable_streams.filestore.format.stored_path import pack_path
from durable_streams.filestore.pipeline.operations import AdoptOperation, BirthOperation, Operation
from durable_streams.filestore.reading.boundaries import Span
from durable_streams.filestore.streams.life import LIVE, RULES, Life
from durable_streams.filestore.streams.payloads import LARGE_BODY, prepare, try_prepare
from durable_streams.filestore.streams.stream import Stream
from durable_streams.model.commands import Append
from durable_streams.model.errors import (
    ContentTypeMismatch,
    DiskFull,
    InvalidJson,
    InvalidOffset,
    InvalidRequest,
    SourceGone,
    StreamError,
    StreamExists,
    StreamGone,
    StreamNotFound,
    WriteFailed,
)
from durable_streams.model.offsets import Offset
from durable_streams.model.paths import path_text
from durable_streams.model.results import Created
from durable_streams.rules import media_type
from durable_streams.rules.creates import Identity, fork_lifetime, matches
from durable_streams.rules.json_borders import positions

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Iterable, Iterator

    from durable_streams.filestore.core import Core
    from durable_streams.filestore.runtime.errands import Errands
    from durable_streams.filestore.streams.stream import Payload
    from durable_streams.filestore.verbs.quotas import Quotas
    from durable_streams.model.commands import Create, ForkRequest
    from durable_streams.model.paths import StreamPath


class Births:
    """The verbs ``create`` and ``fork``."""

    def __init__(
        self,
        core: Core,
        errands: Errands,
        quotas: Quotas,
        remove: Callable[[Stream], Coroutine[None, None, None]],
    ) -> None:
        """``remove`` ends an expired or deleted stream that is in the way."""
        self._core = core
        self._errands = errands
        self._quotas = quotas
        self._remove = remove
        self._making: dict[StreamPath, asyncio.Future[None]] = {}

    async def create(self, command: Create, body: bytes) -> Created:
        """Create the stream, or find that it exists already; durable when this returns.

        Who is cancelled before anything was sent on its way has created nothing, nor will have.
        """
        content_type = command.content_type or media_type.DEFAULT
        payload = None
        if len(body) > LARGE_BODY and command.fork is None:
            payload = await self._core.run(
                partial(try_prepare, media_type.is_json(content_type), body, allow_empty=True)
            )
        while True:
            existing = await self._core.catalog.find(command.path, likely=False)
            making = self._making.get(command.path)
            if making is not None:
                await asyncio.wait([making])
                continue
            if existing is None:
                if self._quotas.is_known(command.path):
                    break
                await self._quotas.count(command.path)
                continue
            if existing.state is LIVE and not existing.is_expired(self._core.now_ms()):
                return await self._same(existing, command)
            # A crash may have come between the end of the last fork and that of its source.
            with suppress(StreamNotFound, StreamGone):  # somebody else removed it, or forks need it
                await self._errands.do(self._clear_away(existing))
            if existing.state is Life.KEPT_FOR_FORKS:
                raise StreamExists(
                    path_text(command.path), "it was deleted, and its forks still need it"
                )
        if command.fork is not None:
            return await self._fork(command, command.fork, body)
        if payload is None:
            payload = prepare(media_type.is_json(content_type), body, allow_empty=True)
        if isinstance(payload, InvalidJson):
            raise payload
        return await self._fresh(command, content_type, payload)

    async def _clear_away(self, stream: Stream) -> None:
        """Remove what was deleted or has expired, unless a deletion failed by now."""
        if RULES[stream.state].is_deleted or stream.is_expired(self._core.now_ms()):
            await self._remove(stream)

    async def _same(self, existing: Stream, command: Create) -> Created:
        if existing.last_operation is not None:
            await existing.last_operation.wait()
        sidecar = existing.sidecar
        if RULES[existing.state].reads is StreamGone:
            raise StreamExists(
                path_text(command.path), "it was deleted, and its forks still need it"
            )
        fork = sidecar.fork.request() if sidecar.fork else None
        matches(
            Identity(
                existing.content_type,
                sidecar.requested.lifetime(),
                existing.durable.closed,
                fork,
            ),
            command,
        )
        return Created(created=False, info=existing.info())

    async def _prepare(self, is_json: bool, body: bytes) -> Payload:
        """:func:`prepare`, off the loop if the body is large; then something may have changed."""
        if len(body) <= LARGE_BODY:
            return prepare(is_json, body, allow_empty=True)
        return await self._core.run(partial(prepare, is_json, body, allow_empty=True))

    # -- fresh streams ---------------------------------------------------------------------

    async def _fresh(self, command: Create, content_type: str, payload: Payload) -> Created:
        """No await between the look-up and the submission."""
        core = self._core
        now_ms = core.now_ms()
        stream_id = core.runtime.new_id()
        root = root_of(stream_id)
        first_segment = core.removed.first_segment(pack_path(command.path))
        sidecar = Sidecar(
            id=stream_id,
            path=pack_path(command.path),
            content_type=media_type.shared(content_type),
            created_ms=now_ms,
            last_use_ms=now_ms,
            root=root.hex(),
            requested=requested(command.lifetime),
            forks=NO_FORKS,
            ttl_s=command.lifetime.ttl_s,
            expires_at=command.lifetime.expires_at,
            expires_at_ms=command.lifetime.expires_at_ms,
            first=first_segment,
        )
        tail = Tail(first_segment, 0, 0, root)
        loaded = LoadedStream(sidecar, tail, beginning_at(first_segment))
        stream = Stream(command.path, loaded, now_ms)
        index = b""
        if payload.data or command.closed:
            first = Append(command.path, content_type, close=command.closed)
            index = stream.reserve(first, payload, now_ms, core.settings)[0].index
        record = fmt.CreateRecord(
            stream.stored, stream_id, sidecar_format.pack(sidecar), index, payload.data
        )

        def discard() -> None:
            core.catalog.remove(stream)
            self._quotas.give_back(stream.path)

        self._quotas.take(stream.path)
        operation = BirthOperation(stream, (record,), payload.data, discard)
        core.catalog.add(stream)
        core.pipeline.submit(operation)
        await operation.wait()
        return Created(created=True, info=stream.info())

    # -- forks -----------------------------------------------------------------------------

    async def _fork(self, command: Create, request: ForkRequest, body: bytes) -> Created:
        """Nobody else makes a stream at the path meanwhile, and none is being deleted there."""
        making = self._core.loop.create_future()
        self._making[command.path] = making

        def made(_: object) -> None:
            del self._making[command.path]
            making.set_result(None)

        task = self._errands.begin(self._fork_alone(command, request, body))
        task.add_done_callback(made)
        return await asyncio.shield(task)

    async def _fork_alone(self, command: Create, request: ForkRequest, body: bytes) -> Created:
        source = await self._source(command, request)
        self._quotas.take(command.path)
        try:
            stream = await self._make_fork(command, request, source, body)
        except (StreamError, OSError):
            self._quotas.give_back(command.path)
            await self._let_go(source)
            raise
        fault = self._core.catalog.outages.error(stream.path, stream.id)
        if fault is not None:
            raise fault.again()
        return Created(created=True, info=stream.info())

    async def _make_fork(
        self, command: Create, request: ForkRequest, source: Stream, body: bytes
    ) -> Stream:
        """The fork, in its place; its source stays, at least softly deleted, until it is there."""
        source.building += 1
        operation: AdoptOperation | None = None
        try:
            payload = await self._prepare(source.is_json, body)
            with self._reading(source.path):
                plan = await self._plan(command, request, source)
            await self._in_files(source, plan.point)
            tail = await self._build(plan)
            operation = self._adopt(command, plan, source, tail, payload)
            await operation.wait()
        except (StreamError, OSError):
            if operation is not None:
                await self._discard(operation.stream.id)
            raise
        finally:
            source.building -= 1
            source.forks_made += 1
        return operation.stream

    async def _in_files(self, source: Stream, offset: Offset) -> None:
        """Return when a source's files have everything up to an offset, and can be relied on."""
        await self._core.pipeline.files_have(source, offset)
        fault = self._core.catalog.outages.error(source.path, source.id)
        if fault is not None:
            raise fault.again()

    async def _discard(self, stream_id: str) -> None:
        """Remove a fork that was built for nothing, unless the journal may say something else."""
        directory = self._core.directory
        if self._core.health.fault is None:
            with suppress(OSError):  # the next start does it
                await self._core.run(
                    whole_files.remove_tree, directory.disk, directory.tmp / stream_id
                )

    async def _let_go(self, source: Stream) -> None:
        """End a source that was deleted while a fork was built that came to nothing."""
        rules = RULES[source.state]
        if rules.is_deleted and not rules.has_ended:
            with suppress(StreamError, OSError):  # the walk over expired streams does it
                await self._remove(source)

    @contextmanager
    def _reading(self, source: StreamPath) -> Iterator[None]:
        """Say what is wrong with a file of the source, which stays while the fork is built."""
        try:
            yield
        except OSError as error:
            raise self._misread(source, error) from error

    def _misread(self, source: StreamPath, error: OSError) -> Exception:
        if error.errno == errno.ENOENT:
            return damaged(self._core.directory, source, f"{error.filename} is missing")
        return unreadable(self._core.directory, source, error)

    async def _build(self, plan: ForkPlan) -> Tail:
        try:
            return await self._core.run(build, self._core.directory, plan)
        except FailedRead as error:
            raise self._misread(plan.source_path, error) from error
        except DamagedFiles as error:
            raise damaged(self._core.directory, plan.source_path, error) from error
        except OSError as error:
            self._core.health.look_for_failed_sync()
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                raise DiskFull("no space is left for the fork; nothing was stored") from error
            if self._core.health.fault is not None:
                raise self._core.health.fault.again() from None
            raise WriteFailed(f"building the fork failed: {error}") from error

    async def _source(self, command: Create, request: ForkRequest) -> Stream:
        source = await self._core.catalog.find(request.source)
        if source is None or (source.state is LIVE and source.is_expired(self._core.now_ms())):
            raise StreamNotFound(path_text(request.source))
        if source.state is not LIVE:
            if source.change is not None:
                await source.change.wait()
            raise SourceGone(path_text(request.source))
        requested = command.content_type
        if requested is not None and not media_type.same(requested, source.content_type):
            raise ContentTypeMismatch(source.content_type, requested)
        return source

    async def _plan(self, command: Create, request: ForkRequest, source: Stream) -> ForkPlan:
        core = self._core
        anchor = source.durable.offset if request.offset is None else request.offset
        if anchor > source.durable.offset:
            raise InvalidOffset(f"the fork offset {anchor.token} is beyond the source's tail")
        point, last_messages = await core.reader.locate(source, anchor), None
        if request.sub_offset or (source.is_json and anchor < source.durable.offset):
            point, last_messages = await self._inside(source, point, request.sub_offset)
        segments = source.segments
        if point.segment > segments.first and not point.position:
            before = point.segment - 1
            point = Offset(before, segments.size_of(before, source.durable))
        now_ms = core.now_ms()
        first = max(segments.first, core.removed.first_segment(pack_path(command.path)))
        own_point = Offset(point.segment - segments.first + first, point.position)
        lifetime = fork_lifetime(source.sidecar.lifetime(), command.lifetime)
        sidecar = Sidecar(
            id=core.runtime.new_id(),
            path=pack_path(command.path),
            content_type=source.content_type,
            created_ms=now_ms,
            last_use_ms=now_ms,
            root=source.sidecar.root,
            requested=requested(command.lifetime),
            fork=ForkOrigin(
                source=pack_path(request.source),
                source_id=source.id,
                offset=None if request.offset is None else request.offset.token,
                sub_offset=request.sub_offset,
                point=own_point.token,
            ),
            ttl_s=lifetime.ttl_s,
            expires_at=lifetime.expires_at,
            expires_at_ms=lifetime.expires_at_ms,
            first=first,
        )
        return ForkPlan(source.path, source.id, sidecar, point, last_messages, segments.first)

    async def _inside(self, source: Stream, at: Offset, count: int) -> tuple[Offset, int | None]:
        """The position ``count`` messages or bytes behind ``at``, within the append there.

        And of a JSON stream how many messages the append has up to there, None if it is whole.
        """
        segment, position = at
        reader = self._core.reader
        begin = end = position
        if at < source.durable.offset:
            begin, end = await reader.boundaries.append_at(source, at)
        if not source.is_json:
            if position + count > end:
                raise InvalidRequest("the fork sub-offset is past the end of the append")
            return Offset(segment, position + count), None
        if begin == position and not count:
            return at, None
        if begin == end:
            raise InvalidRequest("the fork sub-offset is past the messages of the append")
        return await reader.look_into(
            source,
            segment,
            Span(begin, end),
            lambda slices: _behind_messages(slices, at, position - begin, count),
        )

    def _adopt(
        self, command: Create, plan: ForkPlan, source: Stream, tail: Tail, payload: Payload
    ) -> AdoptOperation:
        core = self._core
        now_ms = core.now_ms()
        segments = source.segments.cut(plan.point.segment).moved_to(plan.sidecar.first)
        stream = Stream(command.path, LoadedStream(plan.sidecar, tail, segments), now_ms)
        source.forked = True
        core.pipeline.submit(
            Operation(source, (fmt.ForkRecord(source.stored, source.id, stream.id, stream.stored),))
        )
        adopt = fmt.AdoptRecord(stream.stored, stream.id)
        first: fmt.AppendRecord | None = None
        if payload.data or command.closed:
            append = Append(command.path, stream.content_type, close=command.closed)
            first = stream.reserve(append, payload, now_ms, core.settings)[0]
        operation = AdoptOperation(
            stream, source, adopt, first, lambda: core.catalog.remove(stream)
        )
        core.catalog.add(stream)
        core.catalog.opened(stream.path)
        core.pipeline.submit(operation)
        return operation


def _behind_messages(
    append: Iterable[bytes], at: Offset, inside: int, count: int
) -> tuple[Offset, int | None]:
    """The offset ``count`` messages behind ``at``, and how many its append has up to there.

    ``inside``: where in the append ``at`` is.
    """
    messages, offset = 0, at
    for end in positions(append):
        if end > inside:
            if not count:
                break
            count -= 1
            offset = Offset(at.segment, at.position + end - inside)
        messages += 1
    if count:
        raise InvalidRequest("the fork sub-offset is past the messages of the append")
    return offset, messages
