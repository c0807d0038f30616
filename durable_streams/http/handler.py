"""aiohttp's front: its requests, read, decided by the exchange, and answered.

One :class:`StreamsHandler` serves one store, below one prefix or several, in a server of its own
or in an application.  It answers everything itself: a request that fails gets the status of its
error, a bug gets 500 and one traceback in the log, and a client that went away gets nothing.
"""

from __future__ import annotations

import asyncio
import random as random_module
import time
from contextlib import suppress
from functools import partial
from time import perf_counter
from typing import TYPE_CHECKING, Final, NoReturn

from aiohttp import web

from durable_streams.access.door import OPEN
from durable_streams.http.access_log import CLIENT_LEFT, AccessLog, Exchanged
from durable_streams.http.askers import Askers
from durable_streams.http.below_control import BelowControl
from durable_streams.http.body import BodyBudget, read_body
from durable_streams.http.decided import FromFiles
from durable_streams.http.event_stream import EventStream
from durable_streams.http.exchange import Exchange
from durable_streams.http.listing import Lists
from durable_streams.http.live import BATCH_BYTES, LiveReads
from durable_streams.http.logs import made_id
from durable_streams.http.metrics import Metrics
from durable_streams.http.peers import Peers
from durable_streams.http.presence import PresenceConnection, cancelled_when_gone
from durable_streams.http.sending import Answer, Sender
from durable_streams.model.commands import Append, Create, Live, Read
from durable_streams.model.errors import ForeignHost, StreamError
from durable_streams.model.paths import is_reserved
from durable_streams.wire import caching
from durable_streams.wire.pages import OPEN_TO_ALL
from durable_streams.wire.replies import FOR_NO_PAGE
from durable_streams.wire.request_ids import request_id
from durable_streams.wire.requests import claims_producer, parse_command
from durable_streams.wire.signed_query import redacted
from durable_streams.wire.urls import (
    Address,
    authority,
    forwarded_for,
    is_stripped,
    public_prefix,
    stream_url,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from durable_streams.access.door import Door
    from durable_streams.http.askers import Authorize
    from durable_streams.http.control import Control
    from durable_streams.http.decided import Admitted, Begun
    from durable_streams.model.commands import Command
    from durable_streams.model.paths import StreamPath
    from durable_streams.settings import HttpSettings
    from durable_streams.store import Store
    from durable_streams.wire.pages import Pages
    from durable_streams.wire.replies import Common, Reply


_SENDING: Final = web.RequestKey("durable_streams.sending", Answer)
"""Where a request keeps its answer while that is being sent, piece by piece."""


class StreamsHandler:
    """Answers the requests below the prefix of a stream space; one per store and server."""

    def __init__(
        self,
        store: Store,
        settings: HttpSettings,
        pages: Pages = OPEN_TO_ALL,
        door: Door = OPEN,
        *,
        authorize: Authorize | None = None,
        control: Control | None = None,
        lists: bool = True,
        clock: Callable[[], float] = time.time,
        random: random_module.Random | None = None,
    ) -> None:
        """``clock`` is in seconds since 1970; ``random`` spreads cursors and lifetimes.

        ``pages``: which web pages are welcome.  ``door``: knows who asks, unless ``authorize``
        does.  ``control``: answers what is below ``__ds``.  ``lists``: whether streams are listed
        there.  ``ValueError`` if caches might mix up streams that were at one path after each
        other.
        """
        least_s = caching.kept_s(settings.immutable_max_age_s)
        if store.remember_removed_s < least_s:
            raise ValueError(
                f"caches may keep pieces of streams for {least_s} s (immutable_max_age_s is "
                f"{settings.immutable_max_age_s}), and the streams remember removed paths for "
                f"{store.remember_removed_s} s only: open them with "
                f"Settings(remember_removed_s={least_s})"
            )
        self.store = store
        self.settings = settings
        self.sender = Sender(stall_timeout_s=settings.stall_timeout_s, clock=clock)
        self.live = LiveReads(
            store,
            settings,
            self.sender.turns,
            door,
            clock=clock,
            random=random or random_module.Random(),  # noqa: S311 - it guards no secret
        )
        if not door.is_open:
            door.on_change.append(self.live.recheck)
        self.exchange = Exchange(store, settings, self.live, pages, door=door)
        self.counters = self.exchange.counters
        self.metrics = Metrics(store, self.counters, self.live)
        self.peers = Peers(settings.trusted_proxy)
        self.use(settings)
        self._askers = Askers(self.exchange, self.peers, authorize)
        self.active: set[asyncio.Task[object]] = set()
        self.max_body_bytes = store.max_append_bytes
        self.bodies = BodyBudget(max(settings.max_bodies_bytes, self.max_body_bytes))
        self.below_control = BelowControl(
            store,
            self.exchange,
            self._askers,
            self.bodies,
            self.metrics,
            control=control,
            lists=Lists(store) if lists else None,
        )

    def use(self, settings: HttpSettings) -> None:
        """Go on with other settings, which differ in *reloadable* ones only (``model/setting``).

        They count for what is asked from now on.
        """
        self.settings = self.live.settings = settings
        self.exchange.limits.use(settings)
        log = AccessLog(self.peers, settings.access_log_sample) if settings.access_log else None
        self.exchange.told = log

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
        begun = _begun_on(request)
        asked = self.begin(request) if begun is None else begun.asked
        try:
            answer = await self._answer(
                request, begun, asked, prefix=prefix, raw_path=raw_path, raw_query=raw_query
            )
        except BaseException:  # a cancellation: the client has gone
            self.tell(request, asked, None)
            raise
        finally:
            self.active.discard(task)
        self.tell(request, asked, answer)
        return answer

    def begin(
        self, request: web.BaseRequest, kind: str = "", *, is_read: bool = True
    ) -> Exchanged | None:
        """What is told of a request at its end; None if nobody wants to be told.

        ``is_read``: else its head could not be, and what it says is not known.
        """
        if self.exchange.told is None:
            return None
        return Exchanged(
            request.method,
            request.raw_path,
            request.protocol.peername,
            forwarded_for(request.headers) if is_read else "",
            request_id(request.headers, made_id) if is_read else "",
            asyncio.get_running_loop().time(),
            kind,
        )

    def called(self, request: web.BaseRequest, asked: Exchanged | None) -> str:
        """What a request says that it is called, for its answer; "" if it does not."""
        return request_id(request.headers, made_id) if asked is None else asked.request_id

    async def _answer(
        self,
        request: web.BaseRequest,
        begun: Begun | None,
        asked: Exchanged | None,
        *,
        prefix: str,
        raw_path: str,
        raw_query: str,
    ) -> web.StreamResponse:
        exchange = self.exchange
        called = self.called(request, asked)
        common = exchange.pages.default.with_id(called)
        try:
            if begun is not None:
                common = begun.common
                return await self._end(request, begun)
            is_control = is_reserved(raw_path)
            if is_control:
                common = FOR_NO_PAGE.with_id(called)
            host = authority(request.raw_path)
            page = exchange.pages.admit(host, request.headers, for_all=not is_control)
            common = page.with_id(called)
            if is_control:
                reply = await self._below_control(request, asked, prefix, raw_path, raw_query)
                if reply is not None:
                    return self.sender.answer(reply, common)
            seen = self._seen_below(request, prefix)
            command = parse_command(request.method, raw_path, raw_query, request.headers, seen)
            if asked is not None:
                asked.command = command
            admitted = await self._askers.admit(request, raw_query, command, asked)
            if asked is not None:
                asked.principal = admitted.principal.name
            if isinstance(command, Read) and command.live is Live.SSE:
                return await self._send_events(request, command, admitted, common)
            found = await self._carry_out(request, prefix, command, admitted)
            return await self._send(request, found, common)
        except (ConnectionError, web.RequestPayloadError):
            return _Nothing()
        except Exception as error:  # noqa: BLE001 - whatever it is, the client gets an answer
            return self._failed(request, asked, error, common)

    async def _end(self, request: web.BaseRequest, begun: Begun) -> web.StreamResponse:
        """End what another front has begun: a read whose answer is not in memory."""
        found: Reply | FromFiles | None = begun.found
        if found is None:
            waiting = partial(cancelled_when_gone, request)
            begin_s = perf_counter()
            found = await self.exchange.later(begun.command, begun.admitted, b"", "", waiting)
            self.counters.done(begun.command, begin_s)
        return await self._send(request, found, begun.common)

    def tell(
        self,
        request: web.BaseRequest,
        asked: Exchanged | None,
        answer: web.StreamResponse | None,
    ) -> None:
        """Count an exchange that is over, and tell of it; None: its client has gone."""
        status, sent_bytes, counted_bytes = CLIENT_LEFT, 0, 0
        sent = answer if isinstance(answer, Answer) else request.get(_SENDING)
        if isinstance(sent, Answer) and (sent is answer or sent.is_out):
            status, sent_bytes = sent.status, sent.sent_bytes(request)
            counted_bytes = 0 if sent.length_bytes is None else sent_bytes  # events were already
        self.counters.answered(request.method, status, counted_bytes)
        told = self.exchange.told
        if asked is None or told is None:
            return
        asked.received_bytes = request.content.total_bytes
        asked.over(status, sent_bytes, asyncio.get_running_loop().time())
        told(asked)

    async def _send(
        self,
        request: web.BaseRequest,
        found: Reply | FromFiles,
        common: Common,
    ) -> web.StreamResponse:
        if not isinstance(found, FromFiles):
            return self.sender.answer(found, common)
        answer = request[_SENDING] = self.sender.answer(found.reply, common)
        with found:
            await self.sender.send_plan(request, answer, found.plan)
        return answer

    def _failed(
        self,
        request: web.BaseRequest,
        asked: Exchanged | None,
        error: Exception,
        common: Common,
    ) -> web.StreamResponse:
        if asked is not None:
            asked.error = type(error).__name__
        method, target = request.method, redacted(request.raw_path)
        of_producer = claims_producer(method, request.headers)
        reply = self.exchange.failure(error, method, target, of_producer=of_producer)
        answer = self.sender.answer(reply, common)
        if isinstance(error, ForeignHost):
            answer.force_close()  # nothing on this connection is meant for us
        return answer

    async def _carry_out(
        self, request: web.BaseRequest, prefix: str, command: Command, admitted: Admitted
    ) -> Reply | FromFiles:
        """Read the body of a write, unless writes are refused anyway, and have it carried out."""
        waiting = partial(cancelled_when_gone, request)
        if not isinstance(command, Append | Create):
            return await self.exchange.carry_out(command, admitted, b"", "", waiting)
        location = ""
        if isinstance(command, Create):
            location = self._url_of(request, prefix, command.path)
        with self.bodies.share() as share:
            self.exchange.refuse_writes()
            timeout_s = self.settings.body_timeout_s
            try:
                body = await read_body(request, self.max_body_bytes, timeout_s, share)
            except (StreamError, web.RequestPayloadError):  # what came of it came all the same
                self.counters.received_bytes += request.content.total_bytes
                if admitted.payer:
                    self.exchange.limits.charge(admitted.payer, request.content.total_bytes)
                raise
            self.counters.received_bytes += len(body)
            return await self.exchange.carry_out(command, admitted, body, location, waiting)

    async def _below_control(
        self,
        request: web.BaseRequest,
        asked: Exchanged | None,
        prefix: str,
        raw_path: str,
        raw_query: str,
    ) -> Reply | None:
        """Answer a request for what is below ``__ds``; None if nothing there knows it."""
        if asked is not None:
            asked.kind = "control"
        return await self.below_control.answer(
            request,
            raw_path,
            raw_query,
            asked,
            timeout_s=self.settings.body_timeout_s,
            url_of=partial(self._url_of, request, prefix),
        )

    def _seen_below(self, request: web.BaseRequest, prefix: str) -> str:
        """The path below which whoever asks sees the streams, as it names the source of a fork."""
        if is_stripped(request.headers) and self.peers.is_trusted(request.protocol.peername):
            return public_prefix(request.headers, prefix)
        return prefix

    async def metrics_for(self, request: web.BaseRequest, raw_query: str) -> web.StreamResponse:
        """Answer with the metrics, wherever they are asked for, as pages of this host may."""
        asked = self.begin(request, "other")
        called = self.called(request, asked)
        common = FOR_NO_PAGE.with_id(called)
        host = authority(request.raw_path)
        try:
            common = self.exchange.pages.admit(host, request.headers, for_all=False).with_id(called)
            reply = await self.below_control.metrics(request, raw_query, asked)
            answer: web.StreamResponse = self.sender.answer(reply, common)
        except Exception as error:  # noqa: BLE001 - whatever it is, the client gets an answer
            answer = self._failed(request, asked, error, common)
        self.tell(request, asked, answer)
        return answer

    def _url_of(self, request: web.BaseRequest, prefix: str, path: StreamPath) -> str:
        """The URL of a stream, as who asks sees it."""
        return self.location(request.protocol, request.raw_path, request.headers, prefix, path)

    def location(
        self,
        connection: web.RequestHandler,
        target: str,
        headers: Mapping[str, str],
        prefix: str,
        path: StreamPath,
    ) -> str:
        """The URL of a stream that a request on a connection makes."""
        is_forwarded = self.peers.is_trusted(connection.peername)
        own = Address.of(connection.sockname, is_secure=connection.ssl_context is not None)
        return stream_url(target, headers, own, prefix, path, is_forwarded=is_forwarded)

    async def _send_events(
        self,
        request: web.BaseRequest,
        command: Read,
        admitted: Admitted,
        common: Common,
    ) -> web.StreamResponse:
        """Answer with a stream's events until it, the client or the lifetime ends."""
        store, live = self.store, self.live
        stream = await store.open(command.path)
        with (
            store.following(stream),
            await store.read(stream, command.start, max_bytes=BATCH_BYTES) as chunk,
        ):
            reply = self.exchange.first_events(command, stream, chunk)
            if reply.status != 200:
                return self.sender.answer(reply, common)
            events = await EventStream.open(self.sender, request, reply, common, self.counters)
            request[_SENDING] = events.answer
            cursor = live.cursor(command.cursor)
            limits, payer = self.exchange.limits, admitted.payer
            charge = partial(limits.charge, payer) if payer else None
            with (
                limits.live_read(payer),
                live.reader(
                    stream, events, chunk, cursor, admitted.principal, charge=charge
                ) as reader,
                events.under_way(),
                cancelled_when_gone(request),
            ):
                # If the stream is no more, the client learns why when it reconnects.
                with suppress(StreamError):
                    await reader.run(chunk)
                await events.finish()
            return events.answer


def _begun_on(request: web.BaseRequest) -> Begun | None:
    """What another front has begun of a request, if one has."""
    connection = request.protocol
    if not isinstance(connection, PresenceConnection) or connection.handed is None:
        return None
    begun: Begun = connection.handed
    connection.handed = None
    return begun


class _Nothing(web.StreamResponse):
    """The answer to a client that went away: aiohttp drops the connection silently."""

    def __init__(self) -> None:
        super().__init__(status=CLIENT_LEFT)

    async def prepare(self, request: web.BaseRequest) -> NoReturn:  # noqa: ARG002 - aiohttp's
        """Say that there is nobody to answer."""
        raise ConnectionResetError("the client has gone")
