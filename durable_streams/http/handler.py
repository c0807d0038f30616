"""From a request to its answer: parse, ask the engine, describe, send.

One :class:`StreamsHandler` serves one engine, below one prefix or several, in a server of its own
or in an application.  It answers everything itself: a request that fails gets the status of its
error, a bug gets 500 and one traceback in the log, and a client that went away gets nothing.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import random as random_module
import time
from typing import TYPE_CHECKING, Final, NoReturn, assert_never

from aiohttp import web

from durable_streams.http.body import BodyBudget, BodyShare, read_body
from durable_streams.http.live import LiveReads
from durable_streams.http.logs import Throttle
from durable_streams.http.presence import cancelled_when_gone
from durable_streams.http.sending import Sender
from durable_streams.http.urls import stream_url
from durable_streams.model.commands import Append, Create, Delete, Head, Live, Preflight, Read
from durable_streams.model.errors import Draining, Overloaded, StreamError
from durable_streams.model.offsets import Start
from durable_streams.wire import caching, replies
from durable_streams.wire.replies import BodyPlan, Reply
from durable_streams.wire.requests import parse_command

if TYPE_CHECKING:
    from collections.abc import Callable

    from durable_streams.filestore.store import FileStore
    from durable_streams.model.results import Chunk, StreamRef
    from durable_streams.settings import HttpSettings

_NO_DESCRIPTORS: Final = frozenset({errno.EMFILE, errno.ENFILE})

logger = logging.getLogger("durable_streams")


class StreamsHandler:
    """Answers the requests below the prefix of a stream space; one per engine and server."""

    def __init__(
        self,
        engine: FileStore,
        settings: HttpSettings,
        *,
        clock: Callable[[], float] = time.time,
        random: random_module.Random | None = None,
    ) -> None:
        """``clock`` is in seconds since 1970; ``random`` spreads cursors and lifetimes.

        ``ValueError`` if caches might mix up streams that were at one path after each other.
        """
        least_s = caching.kept_s(settings.immutable_max_age_s)
        if engine.remember_removed_s < least_s:
            raise ValueError(
                f"caches may keep pieces of streams for {least_s} s (immutable_max_age_s is "
                f"{settings.immutable_max_age_s}), and the streams remember removed paths for "
                f"{engine.remember_removed_s} s only: open them with "
                f"Settings(remember_removed_s={least_s})"
            )
        self.engine = engine
        self.settings = settings
        self.sender = Sender(
            stall_timeout_s=settings.stall_timeout_s, clock=clock, executor=engine.executor
        )
        self.live = LiveReads(
            engine,
            settings,
            self.sender,
            clock=clock,
            random=random or random_module.Random(),  # noqa: S311 - it guards no secret
        )
        self.active: set[asyncio.Task[object]] = set()
        self.max_body_bytes = engine.settings.max_append_bytes
        self.bodies = BodyBudget(max(settings.max_bodies_bytes, self.max_body_bytes))
        self._throttle = Throttle()

    def drain(self) -> None:
        """End live reads cleanly, and every connection with its next answer."""
        self.sender.closing = True
        self.live.drain()

    async def handle(
        self, request: web.BaseRequest, prefix: str, raw_path: str, raw_query: str
    ) -> web.StreamResponse:
        """Answer a request for what is at ``raw_path`` below ``prefix`` (no slash between).

        The answer may have been sent already; aiohttp then sends nothing more.
        """
        task = asyncio.current_task()
        assert task is not None
        self.active.add(task)
        try:
            return await self._answer(request, prefix, raw_path, raw_query)
        except (ConnectionError, web.RequestPayloadError):
            return _Nothing()
        except Exception as error:  # noqa: BLE001 - whatever it is, the client gets an answer
            reply = self.failure(error, request.method, request.raw_path)
            return self.sender.answer(reply)
        finally:
            self.active.discard(task)

    def failure(self, error: Exception, method: str, target: str) -> Reply:
        """Describe the answer to a request that failed, and log what is not the client's doing."""
        fields = {"method": method, "path": target}
        match error:
            case StreamError():
                reply = replies.errors(error)
                if reply.status >= 500 and not isinstance(error, Draining):
                    self._log(type(error).__name__, f"{error}", fields)
                return reply
            case OSError(errno=number) if number in _NO_DESCRIPTORS:
                return self.failure(
                    Overloaded("the server is out of file descriptors"), method, target
                )
            case OSError():  # the system failed, which is no bug of ours
                self._log("OSError", f"a request failed: {error}", fields)
            case _:
                logger.error("bug: a request failed", exc_info=error, extra=fields)
        return replies.internal_error()

    def _log(self, kind: str, message: str, fields: dict[str, str]) -> None:
        """Log a trouble of the server's own, but not without end."""
        if self._throttle.allows(kind):
            logger.error("%s", message, extra={"error": kind, **fields})

    async def _answer(
        self, request: web.BaseRequest, prefix: str, raw_path: str, raw_query: str
    ) -> web.StreamResponse:
        command = parse_command(request.method, raw_path, raw_query, request.headers, prefix)
        match command:
            case Append():
                with self.bodies.share() as share:
                    body = await self._writable_body(request, share)
                    reply = replies.appended(await self.engine.append(command, body))
            case Read():
                return await self._read(request, command)
            case Create():
                location = stream_url(
                    request.raw_path, request.headers, request.protocol, prefix, command.path
                )
                with self.bodies.share() as share:
                    body = await self._writable_body(request, share)
                    reply = replies.created(await self.engine.create(command, body), location)
            case Head():
                reply = replies.info(await self.engine.head(command.path))
            case Delete():
                await self.engine.delete(command.path)
                reply = replies.deleted()
            case Preflight():
                reply = replies.preflight()
            case _:
                assert_never(command)
        return self.sender.answer(reply)

    async def _writable_body(self, request: web.BaseRequest, share: BodyShare) -> bytes:
        """Read the body of a write, unless writes are refused anyway."""
        refusal = self.engine.refusal()
        if refusal is not None:
            raise refusal.again()
        timeout_s = self.settings.body_timeout_s
        return await read_body(request, self.max_body_bytes, timeout_s, share)

    async def _read(self, request: web.BaseRequest, command: Read) -> web.StreamResponse:
        stream = await self.engine.open(command.path)
        match command.live:
            case Live.NO:
                chunk = await self.engine.read(stream, command.start)
            case Live.LONG_POLL:
                chunk = await self._poll(request, stream, command)
            case Live.SSE:
                return await self.live.serve_events(request, stream, command)
            case _:
                assert_never(command.live)
        try:
            reply, plan = self.describe_chunk(command, stream, chunk)
            if plan is None:
                return self.sender.answer(reply)
            return await self.sender.send_plan(request, reply, plan)
        finally:
            chunk.release()

    async def _poll(self, request: web.BaseRequest, stream: StreamRef, command: Read) -> Chunk:
        chunk = await self.engine.read(stream, command.start)
        if chunk.size_bytes or chunk.closed:
            return chunk
        try:
            with cancelled_when_gone(request):
                return await self.live.wait_for_data(stream, chunk)
        except BaseException:
            chunk.release()
            raise

    def describe_chunk(
        self, command: Read, stream: StreamRef, chunk: Chunk
    ) -> tuple[Reply, BodyPlan | None]:
        """Describe the answer with a chunk; a body that is not in memory is planned."""
        cursor = None
        if command.live is Live.LONG_POLL:
            cursor = self.live.cursor(command.cursor)
            if not chunk.size_bytes:
                return replies.long_poll_empty(chunk.end, chunk.closed, cursor), None
        from_now = command.start is Start.NOW
        tag = None
        if not from_now:
            tag = caching.etag(chunk)
        cache_control = caching.cache_control(
            sealed=not chunk.at_tail,
            from_now=from_now,
            max_age_s=self.settings.immutable_max_age_s,
            private=self.settings.private_caching,
            left_s=None if chunk.at_tail else self.engine.left_s(stream),
        )
        headers = replies.chunk_reply_headers(chunk, cache_control, tag, cursor)
        if tag and command.if_none_match and caching.matches(command.if_none_match, tag):
            return replies.not_modified(headers), None
        plan = replies.json_body(chunk) if stream.is_json else replies.plain_body(chunk)
        in_memory = [part for part in plan.parts if isinstance(part, bytes)]
        if len(in_memory) < len(plan.parts):
            return Reply(200, headers), plan
        return Reply(200, headers, b"".join((plan.prefix, *in_memory, plan.suffix))), None


class _Nothing(web.StreamResponse):
    """The answer to a client that went away: aiohttp drops the connection silently."""

    async def prepare(self, request: web.BaseRequest) -> NoReturn:  # noqa: ARG002 - aiohttp's
        """Say that there is nobody to answer."""
        raise ConnectionResetError("the client has gone")
