"""An event store for MCP servers (``pip install 'durable-streams-server[mcp]'``): sessions resume.

    async with DurableEvents(streams) as events:
        app = events.around(server.streamable_http_app(event_store=events))

The SDK (``mcp``) gives one store to all sessions, and names streams by request ids, which every
session has the same of.  So a store has to find out itself whose event it is told, and whose it is
asked for.  ``around`` says so: it sets a context variable for each request, which the SDK's tasks
for a session inherit from the request that opened it.  Without it nothing is stored, nor replayed.

Each session has a stream of its own, below a name that nobody can guess (``mcp_sessions``).  An
event's id says where it is (``mcp_ids``), and it is replayed to the session of that name alone.  A
session keeps its last ``keep`` events, and as many more: its stream is cut into parts of so many,
and the older ones are deleted.

Replaying goes on until the answer to the request is there: nothing is lost between what was stored
and what comes.  So another process can do it as well.  It knows a session by a digest of its id
(and of its user, with the SDK's authorization) in the stream.  When the process that carries the
session is gone, what is under way is answered with an error that says so; unless a run answers it
(:meth:`DurableEvents.follow`), which any process reads on where it was.
"""

from __future__ import annotations

import asyncio
import logging
from collections import OrderedDict
from contextlib import AsyncExitStack, aclosing
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, Final, Protocol, Self, TypeAlias

from mcp.server.streamable_http import GET_STREAM_KEY, EventStore
from mcp_types import (
    INTERNAL_ERROR,
    CallToolResult,
    ErrorData,
    JSONRPCError,
    JSONRPCMessage,
    JSONRPCResponse,
)
from sse_starlette import EventSourceResponse

from durable_streams.runs.mcp_calls import BEGIN_S, Call, Result, is_answer, is_progress, pieces_of
from durable_streams.runs.mcp_ids import EventId, parsed, unscoped
from durable_streams.runs.mcp_replaying import Replaying
from durable_streams.runs.mcp_requests import LAST, SESSION, owner, refuse, unknown, values
from durable_streams.runs.mcp_resuming import Connections, in_one_piece, joined, linger_s
from durable_streams.runs.mcp_sessions import Session
from durable_streams.runs.runs import Runs
from durable_streams.runs.states import DEFAULT_LEASE_S

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable, Callable, MutableMapping
    from types import TracebackType

    from mcp.server.streamable_http import EventCallback

    from durable_streams.runs.store import AnyStreams

_Anything: TypeAlias = Any
"""A message of ASGI, a value of JSON, or a coroutine."""

_log: Final = logging.getLogger("durable_streams.runs")

KEEP: Final = 1000
TTL_S: Final = 60 * 60
SESSIONS: Final = 10_000


class _Context(Protocol):
    """What a tool is called with: the SDK's ``Context``, or fastmcp's."""

    @property
    def request_context(self) -> Any:  # noqa: ANN401 - of two packages
        """The request, and what came with it."""

    async def report_progress(
        self, progress: float, total: float | None = None, message: str | None = None
    ) -> None:
        """Notify of progress."""


_current: ContextVar[Session | None] = ContextVar("durable_streams_mcp_session", default=None)
_asked: ContextVar[list[EventId | None] | None] = ContextVar(
    "durable_streams_mcp_asked", default=None
)


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
        runs: Runs | None = None,
        begin_s: float = BEGIN_S,
        polling: bool = True,
    ) -> None:
        """``keep``: events of each session, at least.  ``ttl_s``: after a session's last use.

        ``lease_s``: as :class:`.Runs`.  ``sessions``: beyond so many those end that were not used
        for longest.  ``runs``: for :meth:`follow`, and ``begin_s``: what one may take to begin.
        ``polling``: a resumed connection has the events that are there, and ends; False: it stays.
        Raises ``ValueError`` for what cannot be.
        """
        if keep < 1 or sessions < 1 or ttl_s < 1:
            raise ValueError("keep, sessions and ttl_s must be at least 1")
        self._streams = streams
        self._runs = Runs(streams, prefix, lease_s=lease_s, ttl_s=ttl_s)
        self._prefix = prefix
        self._keep = keep
        self._most = sessions
        self._answers = runs
        self._begin_s = begin_s
        self._polling = polling
        self._replaying = Replaying(streams, prefix, runs, begin_s)
        self._sessions: OrderedDict[str, Session] = OrderedDict()
        self._connections = Connections()
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
        """Store an event of the session whose request this is; durable on return.

        One that cannot be stored, as it is too large, say, or not allowed, is sent all the same to
        who is connected: an error would end the SDK's task that sends, and the session be mute.
        """
        session = _current.get()
        if session is None:
            raise RuntimeError("whose event is this? Serve the application that around() gives")
        stream_id = unscoped(stream_id)
        if (call := session.calls.get(stream_id)) is not None:  # its run has it already
            if is_answer(message):
                del session.calls[stream_id]
            return session.in_run(stream_id, call.place(message))
        if message is None:  # an error refuses this request alone
            return await self._stored(session, stream_id, None)
        if session.is_over:  # its client is answered 404 from now on
            return session.behind_all(stream_id)
        try:
            return await self._stored(session, stream_id, message)
        except Exception:  # noqa: BLE001 - whatever it is
            _log.exception("mcp: an event of session %s could not be stored", session.name)
        if isinstance(message, JSONRPCResponse | JSONRPCError):
            await self._answer_in_stead(session, stream_id, message.id)
        return session.behind_all(stream_id)

    async def _stored(self, session: Session, stream: str, message: JSONRPCMessage | None) -> str:
        dumped = message and message.model_dump_json(by_alias=True, exclude_unset=True)
        id_: str = await self._whole(session.store(stream, (dumped or "null").encode()))
        return id_

    async def _answer_in_stead(self, session: Session, stream: str, id_: str | int | None) -> None:
        """Who resumes is told that the answer was not kept; if that fails, the session is over."""
        error = ErrorData(code=INTERNAL_ERROR, message="the answer could not be stored")
        try:
            await self._stored(session, stream, JSONRPCError(jsonrpc="2.0", id=id_, error=error))
        except Exception:  # noqa: BLE001 - whatever it is
            _log.exception("mcp: session %s ends, as its answers cannot be stored", session.name)
            self._sessions.pop(session.id, None)
            await self._whole(session.end())

    async def replay_events_after(
        self,
        last_event_id: str,
        send_callback: EventCallback,  # noqa: ARG002 - the SDK's
    ) -> str | None:
        """Have it known that whoever asks may resume; the events are sent around the application.

        So nothing else sends on this connection, nor has to wait for its end.
        """
        session, last, asked = _current.get(), parsed(last_event_id), _asked.get()
        if session is not None:
            if asked is None:
                raise RuntimeError("who asks for events? Serve the application around() gives")
            is_own = last is not None and last.name == session.name
            asked.append(last if is_own else None)
        return None

    # For tools

    async def follow(self, ctx: _Context, name: str) -> CallToolResult:
        """Answer the call of a tool with a run, whoever carries that: what the tool returns.

        Its items ``{"progress": …, "total": …, "message": …}`` are the call's notifications, all
        others its result, a text each; if it does not end well, that is an error with its reason.
        The call outlives this process: any other that has the same ``runs`` goes on with it where
        the client comes again.  So a tool does nothing else, and returns this as it is.

        Raises ``StreamNotFound`` if no such run begins within ``begin_s`` (15 s).
        """
        runs = self._answers
        if runs is None:
            raise RuntimeError("DurableEvents(streams, runs=…) has no runs")
        given = ctx.request_context
        request = getattr(given, "_srctx", given)  # fastmcp's makes a str of each id
        call = Call(name, request.request_id, _token(request.meta))
        session = _current.get()
        if session is not None:
            await self._whole(session.begin_call(str(call.id), call))
        result = Result()
        async with aclosing(pieces_of(runs, name, self._begin_s)) as pieces:
            async for piece in pieces:
                if piece.end is not None:
                    return result.given(piece.end)
                if not is_progress(piece.value):
                    result.take(piece.value)
                elif call.token is not None:
                    call.expect(piece.offset)
                    told = (piece.value.get(key) for key in ("progress", "total", "message"))
                    await ctx.report_progress(*told)
        raise RuntimeError("a run that is read has an end")

    # Whose request it is

    def around(self, application: Callable[..., Awaitable[None]]) -> Callable[..., Awaitable[None]]:
        """The application, told apart by session; within whatever finds out who asks."""

        async def wrapped(scope: _Anything, receive: _Anything, send: _Anything) -> None:
            if scope["type"] != "http":
                await application(scope, receive, send)
                return
            ids = values(scope, SESSION)
            session = self._sessions.get(ids[0]) if ids else None
            if len(ids) > 1:  # of which the SDK would take another one than whoever is before it
                await refuse(send, "there must be one Mcp-Session-Id")
            elif not ids:
                await self._opening(application, scope, receive, send)
            elif session is not None:
                await self._using(session, application, (scope, receive, send))
            else:
                _current.set(None)
                answer = await self._elsewhere(ids[0], scope) or unknown(application, scope)
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
        session = Session(self._streams, self._runs, self._keep)
        session.requests = 1

        async def noting(message: MutableMapping[str, Any]) -> None:
            if message["type"] == "http.response.start":
                id_ = dict(message.get("headers", ())).get(SESSION, b"").decode("latin-1")
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
        session: Session,
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
            if scope["method"] == "GET" and values(scope, LAST):
                await self._resuming(session, application, request)
            else:
                await application(scope, receive, noting)
        finally:
            session.requests -= 1
        if scope["method"] == "DELETE" and status < 400:  # else it was not its user's
            self._sessions.pop(session.id, None)
            await self._whole(session.end())

    async def _resuming(
        self,
        session: Session,
        application: Callable[..., Awaitable[None]],
        request: tuple[_Anything, _Anything, _Anything],
    ) -> None:
        """A connection that resumes: the application says whether it may, and we send the events.

        So does that of ``fastmcp``, which would hold them back until all of them were there.
        """
        scope, receive, send = request
        asked: list[EventId | None] = []
        _asked.set(asked)
        head: MutableMapping[str, Any] | None = None

        async def holding(message: MutableMapping[str, Any]) -> None:
            nonlocal head
            if message["type"] == "http.response.start":
                head = message
            elif not asked:
                if head is not None:
                    await send(head)
                    head = None
                await send(message)

        await application(scope, receive, holding)
        if asked and head is not None:
            if (last := asked[0]) is None:  # a client would take nothing for the end, and ask again
                await refuse(send, "the Last-Event-ID is of no event of this session")
            else:
                await self._replay(last, session, head)(scope, receive, send)

    async def _begin(self, id_: str, session: Session, scope: _Anything) -> None:
        if session.is_over:  # nothing of it could be stored
            return
        await session.bind(owner(id_, scope))
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
        given = values(scope, LAST)
        last = parsed(given[0]) if given and scope["method"] == "GET" else None
        if last is None or not await self._replaying.is_of(last, owner(id_, scope)):
            return None
        if last.stream == GET_STREAM_KEY and await self._replaying.is_read(last):
            return None  # its client would come again for ever
        headers = [
            (b"content-type", b"text/event-stream"),
            (b"cache-control", b"no-cache, no-transform"),
            (SESSION, id_.encode()),
        ]
        head = {"type": "http.response.start", "status": 200, "headers": headers}
        return self._replay(last, None, head)

    def _replay(
        self, last: EventId, session: Session | None, head: MutableMapping[str, Any]
    ) -> Callable[..., Awaitable[None]]:
        """What answers a client that resumes, and is who it says; ``head``: of the answer."""
        replayed = self._replaying.after(last, session)
        before = 0 if last.stream == GET_STREAM_KEY else self._connections.one_more(last)
        events = in_one_piece(replayed, linger_s(before)) if self._polling else replayed

        async def told() -> AsyncGenerator[dict[str, str], None]:
            async with aclosing(events):
                async for event in events:
                    data = event.message.model_dump_json(by_alias=True, exclude_unset=True)
                    id_given = {"id": event.event_id} if event.event_id else {}
                    yield {"event": "message", "data": data, **id_given}

        async def answer(scope: _Anything, receive: _Anything, send: _Anything) -> None:
            async def under_the_head(message: MutableMapping[str, Any]) -> None:
                await send(head if message["type"] == "http.response.start" else message)

            sending = joined(under_the_head) if self._polling else under_the_head
            await EventSourceResponse(told())(scope, receive, sending)

        return answer

    async def _whole(self, doing: _Anything) -> _Anything:
        """What is not cut off in the middle, whoever is cancelled: numbers have to go on."""
        task = asyncio.ensure_future(doing)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return await asyncio.shield(task)


def _token(meta: _Anything) -> str | int | None:
    """What the notifications of a request are to have, None if it wants none."""
    if isinstance(meta, dict):
        return meta.get("progress_token", meta.get("progressToken"))
    return getattr(meta, "progress_token", getattr(meta, "progressToken", None))
