"""An event store for MCP servers (``pip install 'durable-streams-server[mcp]'``): sessions resume.

    async with DurableEvents(streams) as events:
        app = events.around(server.streamable_http_app(event_store=events))

The SDK (``mcp``) gives one store to all sessions, and names streams by request ids, which every
session has the same of.  So a store has to find out itself whose event it is told, and whose it is
asked for.  ``around`` says so: it sets a context variable for each request, which the SDK's tasks
for a session inherit from the request that opened it.  Without it nothing is stored, nor replayed.

Each session has a stream of its own, below a name that nobody can guess, and holds it as a run
holds its own, so that others know when its process is gone.  An event's id is ``NAME.PART.STREAM.
OFFSET``; it is replayed to the session of that name alone.  A session keeps its last ``keep``
events, and as many more: its stream is cut into parts of so many, and the older ones are deleted.

Replaying goes on live, until the answer to the request is there: nothing is lost between what was
stored and what comes.  So another process can do it as well.  It knows a session by a digest of its
id (and of its user, with the SDK's authorization) in the stream.  When the process that carries the
session is gone, what is under way is answered with an error that says so.
"""

from __future__ import annotations

import asyncio
import hashlib
import re
import secrets
from collections import OrderedDict
from contextlib import AsyncExitStack, aclosing, suppress
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Self, TypeAlias
from urllib.parse import quote, unquote

from mcp.server.auth.middleware.bearer_auth import AuthenticatedUser, authorization_context
from mcp.server.streamable_http import GET_STREAM_KEY, EventMessage, EventStore
from mcp_types import (
    INTERNAL_ERROR,
    ErrorData,
    JSONRPCError,
    JSONRPCMessage,
    JSONRPCResponse,
    jsonrpc_message_adapter,
)
from sse_starlette import EventSourceResponse

from durable_streams.model.commands import ProducerClaim
from durable_streams.model.errors import (
    InvalidRequest,
    OffsetGone,
    StreamClosed,
    StreamExists,
    StreamGone,
    StreamNotFound,
)
from durable_streams.runs.formats import JSON
from durable_streams.runs.pieces import json_of
from durable_streams.runs.runs import Runs
from durable_streams.runs.states import DEFAULT_LEASE_S
from durable_streams.runs.store import until_it_works

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, MutableMapping
    from types import TracebackType

    from mcp.server.streamable_http import EventCallback

    from durable_streams.runs.store import AnyStreams

_Anything: TypeAlias = Any
"""A message of ASGI, a value of JSON, or a coroutine."""

KEEP: Final = 1000
TTL_S: Final = 60 * 60
SESSIONS: Final = 10_000
_NAME: Final = re.compile("[0-9a-f]{32}")
_NUMBER: Final = re.compile("[0-9]{1,9}")
_HEADER: Final = b"mcp-session-id"
_GONE: Final = "the process that carried this request is gone, or its events are kept no longer"


class _EventId(NamedTuple):
    """Where an event is: ``offset`` behind it."""

    name: str
    part: int
    stream: str
    offset: str

    @property
    def text(self) -> str:
        """As the client keeps it."""
        stream = quote(self.stream, safe="").replace(".", "%2E")
        return f"{self.name}.{self.part}.{stream}.{self.offset}"


def _parsed(text: str) -> _EventId | None:
    parts = text.split(".")
    if len(parts) != 4 or not _NAME.fullmatch(parts[0]) or not _NUMBER.fullmatch(parts[1]):
        return None
    name, part, stream, offset = parts
    return _EventId(name, int(part), unquote(stream), offset)


class _Session:
    """The events of one session, which this process carries."""

    def __init__(self, streams: AnyStreams, runs: Runs, keep: int) -> None:
        self.name: Final = secrets.token_hex(16)
        self._streams = streams
        self._runs = runs
        self._keep = keep
        self._part = 0
        self._path = ""
        self._seq = 0
        self._owner = ""
        self._is_over = False
        self._turn = asyncio.Lock()
        self.id = ""
        self.requests = 0

    @property
    def oldest(self) -> int:
        """The part that its events begin in, those that are kept."""
        return max(0, self._part - 1)

    def part(self, number: int) -> str:
        """The name of a part of its events, as a run."""
        return f"{self.name}/{number}"

    async def store(self, stream: str, message: bytes) -> str:
        """Store an event; its id.  ``RuntimeError`` when the session is over."""
        async with self._turn:
            if self._is_over:  # nobody would end the part that it began
                raise RuntimeError("the session is over, and keeps nothing more")
            if self._seq >= self._keep:
                await self._cut()
            entry = b'{"stream":%b,"message":%b}' % (json_of(stream), message)
            return _EventId(self.name, self._part, stream, await self._append(entry)).text

    async def bind(self, owner: str) -> None:
        """Have it known whose it is, before any id of it is told."""
        async with self._turn:
            self._owner = owner
            if self._path:
                await self._append(json_of({"owner": owner}))

    async def end(self) -> None:
        """It is over: who follows it is told."""
        async with self._turn:
            self._is_over = True
            for part in range(self.oldest, self._part + 1):
                with suppress(StreamNotFound, StreamGone):
                    await self._runs.release(self.part(part))

    async def _append(self, entry: bytes) -> str:
        while True:
            try:
                if not self._path:
                    await self._begin_part(self._part)
                return await self._append_one(entry)
            except (StreamClosed, StreamNotFound, StreamGone):
                # It expired, or this process was silent for too long: the next part begins.
                before, self._path, self._part = self._part, "", self._part + 1
                await self._begin_part(self._part)
                await self._runs.release(self.part(before))

    async def _begin_part(self, part: int) -> None:
        while True:
            try:
                self._path = await self._runs.hold(self.part(part), JSON)
                break
            except StreamExists:  # it was begun, and then the store was out of order
                part += 1
        self._part, self._seq = part, 0
        if self._owner:
            await self._append_one(json_of({"owner": self._owner}))

    async def _append_one(self, entry: bytes) -> str:
        claim = ProducerClaim("session", 0, self._seq)
        result = await until_it_works(
            lambda: self._streams.append(
                self._path, entry, content_type=JSON.content_type, producer=claim
            )
        )
        self._seq += 1
        return result.next_offset

    async def _cut(self) -> None:
        """Begin the next part, and delete the one before the last."""
        full = self._part
        await self._begin_part(full + 1)  # first: who follows the full one goes on there
        await self._runs.release(self.part(full))
        if full > 0:
            await self._runs.delete(self.part(full - 1))


_current: ContextVar[_Session | None] = ContextVar("durable_streams_mcp_session", default=None)


class DurableEvents(EventStore):
    """The events of an MCP server's sessions, in streams of a directory, a database or a server.

    ``async with``, in the application's lifespan; :meth:`around` the application.
    """

    def __init__(
        self,
        streams: AnyStreams,
        prefix: str = "mcp",
        *,
        keep: int = KEEP,
        ttl_s: int = TTL_S,
        lease_s: float = DEFAULT_LEASE_S,
        sessions: int = SESSIONS,
    ) -> None:
        """``keep``: events of each session, at least.  ``ttl_s``: after a session's last use.

        ``lease_s``: as :class:`.Runs`.  ``sessions``: beyond so many those end that were not used
        for longest.  Raises ``ValueError`` for what cannot be.
        """
        if keep < 1 or sessions < 1 or ttl_s < 1:
            raise ValueError("keep, sessions and ttl_s must be at least 1")
        self._streams = streams
        self._runs = Runs(streams, prefix, lease_s=lease_s, ttl_s=ttl_s)
        self._prefix = prefix
        self._keep = keep
        self._most = sessions
        self._sessions: OrderedDict[str, _Session] = OrderedDict()
        self._stack = AsyncExitStack()
        self._tasks: set[asyncio.Task[Any]] = set()

    async def __aenter__(self) -> Self:
        """Begin to look for sessions whose process is gone."""
        await self._stack.enter_async_context(self._runs)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """End all sessions of this process."""
        await self._stack.aclose()

    # For the SDK

    async def store_event(self, stream_id: str, message: JSONRPCMessage | None) -> str:
        """Store an event of the session whose request this is; durable on return."""
        session = _current.get()
        if session is None:
            raise RuntimeError("whose event is this? Serve the application that around() gives")
        dumped = message and message.model_dump_json(by_alias=True, exclude_unset=True)
        id_: str = await self._whole(session.store(stream_id, (dumped or "null").encode()))
        return id_

    async def replay_events_after(
        self, last_event_id: str, send_callback: EventCallback
    ) -> str | None:
        """Replay what came behind an event of this session, and go on until the answer is there."""
        session, last = _current.get(), _parsed(last_event_id)
        if session is not None and last is not None and last.name == session.name:
            async for event in self._events_after(last, session):
                await send_callback(event)
        return None  # so nothing else sends on this connection

    async def _events_after(
        self, last: _EventId, session: _Session | None = None
    ) -> AsyncIterator[EventMessage]:
        """Events of one of a session's streams, also those to come, until it is complete.

        ``session``: if this process carries it.  Of what is kept no longer it goes on behind that:
        the answer may be there.
        """
        part, offset = last.part, last.offset
        while True:
            path = f"{self._prefix}/{last.name}/{part}"
            try:
                async with aclosing(self._streams.tail(path, offset)) as messages:
                    async for message in messages:
                        event = _event(message.json(), last, part, message.offset)
                        if event is not None:
                            yield event
                            if last.stream != GET_STREAM_KEY and _is_answer(event.message):
                                return
            except InvalidRequest:
                return
            except (StreamNotFound, StreamGone, OffsetGone):
                if session is None or part >= session.oldest:
                    break
                part = session.oldest - 1
            part, offset = part + 1, "-1"
        if last.stream != GET_STREAM_KEY:
            yield EventMessage(_lost(last.stream))

    # Whose request it is

    def around(self, application: Callable[..., Awaitable[None]]) -> Callable[..., Awaitable[None]]:
        """The application, told apart by session; within whatever finds out who asks."""

        async def wrapped(scope: _Anything, receive: _Anything, send: _Anything) -> None:
            if scope["type"] != "http":
                await application(scope, receive, send)
                return
            ids = _values(scope, _HEADER)
            session = self._sessions.get(ids[0]) if ids else None
            if len(ids) > 1:  # of which the SDK would take another one than whoever is before it
                await _refuse(send)
            elif not ids:
                await self._opening(application, scope, receive, send)
            elif session is not None:
                await self._using(session, application, (scope, receive, send))
            else:
                _current.set(None)
                answer = await self._elsewhere(ids[0], scope) or application
                await answer(scope, receive, send)

        return wrapped

    async def _opening(
        self,
        application: Callable[..., Awaitable[None]],
        scope: _Anything,
        receive: _Anything,
        send: _Anything,
    ) -> None:
        """A request that may open a session: its id is in the answer's head."""
        session = _Session(self._streams, self._runs, self._keep)
        session.requests = 1

        async def noting(message: MutableMapping[str, Any]) -> None:
            if message["type"] == "http.response.start":
                id_ = dict(message.get("headers", ())).get(_HEADER, b"").decode("latin-1")
                if id_ and message["status"] < 400:
                    await self._whole(self._begin(id_, session, scope))
            await send(message)

        _current.set(session)
        try:
            await application(scope, receive, noting)
        finally:
            session.requests -= 1

    async def _using(
        self,
        session: _Session,
        application: Callable[..., Awaitable[None]],
        request: tuple[_Anything, _Anything, _Anything],
    ) -> None:
        """A request of a session that this process carries."""
        scope, receive, send = request
        status = 500

        async def noting(message: MutableMapping[str, Any]) -> None:
            nonlocal status
            status = message.get("status", status)
            await send(message)

        self._sessions.move_to_end(session.id)
        _current.set(session)
        session.requests += 1
        try:
            await application(scope, receive, noting)
        finally:
            session.requests -= 1
        if scope["method"] == "DELETE" and status < 400:  # else it was not its user's
            self._sessions.pop(session.id, None)
            await self._whole(session.end())

    async def _begin(self, id_: str, session: _Session, scope: _Anything) -> None:
        await session.bind(_owner(id_, scope))
        session.id = id_
        self._sessions[id_] = session
        while len(self._sessions) > self._most:
            idle = next((s for s in self._sessions.values() if not s.requests), None)
            if idle is None:
                break  # connections have a bound of their own
            del self._sessions[idle.id]
            await idle.end()

    async def _elsewhere(self, id_: str, scope: _Anything) -> Callable[..., Awaitable[None]] | None:
        """What answers a session of another process, or of one that is gone; None: nothing does."""
        given = _values(scope, b"last-event-id")
        last = _parsed(given[0]) if given and scope["method"] == "GET" else None
        if last is None or not await self._is_of(last, _owner(id_, scope)):
            return None

        async def events() -> AsyncIterator[dict[str, str]]:
            async for event in self._events_after(last):
                data = event.message.model_dump_json(by_alias=True, exclude_unset=True)
                id_given = {"id": event.event_id} if event.event_id else {}
                yield {"event": "message", "data": data, **id_given}

        headers = {"Cache-Control": "no-cache, no-transform", "mcp-session-id": id_}
        return EventSourceResponse(events(), headers=headers)

    async def _is_of(self, last: _EventId, owner: str) -> bool:
        """Whether an event's session is the one of this id and user."""
        try:
            path = f"{self._prefix}/{last.name}/{last.part}"
            found = (await self._streams.read_json(path)).values
        except (StreamNotFound, StreamGone, InvalidRequest):
            return False
        owners = [v["owner"] for v in found if isinstance(v, dict) and "owner" in v]
        return bool(owners) and secrets.compare_digest(str(owners[0]), owner)

    async def _whole(self, doing: _Anything) -> _Anything:
        """What is not cut off in the middle, whoever is cancelled: numbers have to go on."""
        task = asyncio.ensure_future(doing)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return await asyncio.shield(task)


def _values(scope: _Anything, name: bytes) -> list[str]:
    """All values of a header."""
    return [value.decode("latin-1") for key, value in scope["headers"] if key == name]


async def _refuse(send: _Anything) -> None:
    headers = [(b"content-type", b"text/plain; charset=utf-8")]
    await send({"type": "http.response.start", "status": 400, "headers": headers})
    await send({"type": "http.response.body", "body": b"there must be one Mcp-Session-Id\n"})


def _owner(id_: str, scope: _Anything) -> str:
    user = scope.get("user")
    who = authorization_context(user) if isinstance(user, AuthenticatedUser) else None
    return hashlib.sha256(repr((id_, who)).encode()).hexdigest()


def _event(entry: _Anything, last: _EventId, part: int, offset: str) -> EventMessage | None:
    """The event in an entry, None if it is none of this stream."""
    if not isinstance(entry, dict) or entry.get("stream") != last.stream:
        return None
    if entry.get("message") is None:
        return None  # a priming event, which says where a connection began
    message = jsonrpc_message_adapter.validate_python(entry["message"], by_name=False)
    return EventMessage(message, _EventId(last.name, part, last.stream, offset).text)


def _is_answer(message: JSONRPCMessage) -> bool:
    return isinstance(message, JSONRPCResponse | JSONRPCError)


def _lost(stream: str) -> JSONRPCError:
    """The answer to a request that nobody answers any more; most clients count their requests."""
    id_ = int(stream) if stream.isascii() and stream.isdecimal() else stream
    return JSONRPCError(jsonrpc="2.0", id=id_, error=ErrorData(code=INTERNAL_ERROR, message=_GONE))
