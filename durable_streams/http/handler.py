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
from typing import TYPE_CHECKING, NoReturn

from aiohttp import web

from durable_streams.access.door import OPEN
from durable_streams.http.askers import Askers
from durable_streams.http.below_control import BelowControl
from durable_streams.http.body import BodyBudget, read_body
from durable_streams.http.event_stream import EventStream
from durable_streams.http.exchange import Exchange, FromFiles
from durable_streams.http.listing import Lists
from durable_streams.http.live import BATCH_BYTES, LiveReads
from durable_streams.http.logs import CLIENT_LEFT, log_access
from durable_streams.http.metrics import Metrics
from durable_streams.http.peers import Peers
from durable_streams.http.presence import PresenceConnection, cancelled_when_gone
from durable_streams.http.sending import Sender
from durable_streams.model.commands import Append, Create, Live, Read
from durable_streams.model.errors import ForeignHost, StreamError
from durable_streams.model.paths import is_reserved
from durable_streams.wire import caching
from durable_streams.wire.pages import OPEN_TO_ALL
from durable_streams.wire.replies import FOR_NO_PAGE
from durable_streams.wire.requests import claims_producer, parse_command
from durable_streams.wire.signed_query import redacted
from durable_streams.wire.urls import Address, authority, is_stripped, public_prefix, stream_url

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from durable_streams.access.door import Door
    from durable_streams.http.askers import Authorize
    from durable_streams.http.control import Control
    from durable_streams.http.exchange import Admitted, Begun
    from durable_streams.model.commands import Command
    from durable_streams.model.paths import StreamPath
    from durable_streams.settings import HttpSettings
    from durable_streams.store import Store
    from durable_streams.wire.pages import Pages
    from durable_streams.wire.replies import Common, Reply


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
        self.use(settings)
        self.peers = Peers(settings.trusted_proxy)
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
        self.exchange.told = log_access if settings.access_log else None

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
        exchange = self.exchange
        common = exchange.pages.default
        try:
            begun = _begun_on(request)
            if begun is not None:
                common = begun.common
                return await self._end(request, begun)
            is_control = is_reserved(raw_path)
            if is_control:
                common = FOR_NO_PAGE
            host = authority(request.raw_path)
            common = exchange.pages.admit(host, request.headers, for_all=not is_control)
            if is_control:
                url_of = partial(self._url_of, request, prefix)
                timeout_s = self.settings.body_timeout_s
                reply = await self.below_control.answer(
                    request, raw_path, raw_query, timeout_s, url_of
                )
                if reply is not None:
                    return self.sender.answer(reply, common)
            seen = self._seen_below(request, prefix)
            command = parse_command(request.method, raw_path, raw_query, request.headers, seen)
            admitted = await self._askers.admit(request, raw_query, command)
            if isinstance(command, Read) and command.live is Live.SSE:
                return await self._send_events(request, command, admitted, common)
            found = await self._carry_out(request, prefix, command, admitted)
            return await self._send(request, found, common)
        except (ConnectionError, web.RequestPayloadError):
            return _Nothing()
        except asyncio.CancelledError:  # the client has gone, and nobody hears of it otherwise
            self.counters.answered(request.method, CLIENT_LEFT, 0)
            raise
        except Exception as error:  # noqa: BLE001 - whatever it is, the client gets an answer
            return self._failed(request, error, common)
        finally:
            self.active.discard(task)

    async def _end(self, request: web.BaseRequest, begun: Begun) -> web.StreamResponse:
        """End what another front has begun: a read whose answer is not in memory."""
        command, admitted, common, found = begun
        if found is not None:
            return await self._send(request, found, common)
        waiting = partial(cancelled_when_gone, request)
        begin_s = perf_counter()
        answer = await self.exchange.later(command, admitted, b"", "", waiting)
        self.counters.done(command, begin_s)
        return await self._send(request, answer, common)

    async def _send(
        self, request: web.BaseRequest, found: Reply | FromFiles, common: Common
    ) -> web.StreamResponse:
        if isinstance(found, FromFiles):
            with found:
                return await self.sender.send_plan(request, found.reply, found.plan, common)
        return self.sender.answer(found, common)

    def _failed(
        self, request: web.BaseRequest, error: Exception, common: Common
    ) -> web.StreamResponse:
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

    def _seen_below(self, request: web.BaseRequest, prefix: str) -> str:
        """The path below which whoever asks sees the streams, as it names the source of a fork."""
        if is_stripped(request.headers) and self.peers.is_trusted(request.protocol.peername):
            return public_prefix(request.headers, prefix)
        return prefix

    async def metrics_for(self, request: web.BaseRequest, raw_query: str) -> web.StreamResponse:
        """Answer with the metrics, wherever they are asked for, as pages of this host may."""
        common = FOR_NO_PAGE
        try:
            host = authority(request.raw_path)
            common = self.exchange.pages.admit(host, request.headers, for_all=False)
            reply = await self.below_control.metrics(request, raw_query)
            return self.sender.answer(reply, common)
        except Exception as error:  # noqa: BLE001 - whatever it is, the client gets an answer
            return self._failed(request, error, common)

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
        own = own_address(connection)
        return stream_url(target, headers, own, prefix, path, is_forwarded=is_forwarded)

    async def _send_events(
        self, request: web.BaseRequest, command: Read, admitted: Admitted, common: Common
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
            cursor = live.cursor(command.cursor)
            limits, payer = self.exchange.limits, admitted.payer
            charge = partial(limits.charge, payer) if payer else None
            with (
                limits.live_read(payer),
                live.reader(
                    stream, events, chunk, cursor, admitted.principal, charge=charge
                ) as reader,
                events.cut_off_on_failure(),
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


def own_address(connection: web.RequestHandler) -> Address:
    """Where the requests of a connection come in."""
    scheme = "http" if connection.ssl_context is None else "https"
    name = connection.sockname
    if not isinstance(name, tuple):
        return Address(scheme, "localhost")
    host, port = name[:2]
    return Address(scheme, f"[{host}]:{port}" if ":" in host else f"{host}:{port}")


class _Nothing(web.StreamResponse):
    """The answer to a client that went away: aiohttp drops the connection silently."""

    def __init__(self) -> None:
        super().__init__(status=CLIENT_LEFT)

    async def prepare(self, request: web.BaseRequest) -> NoReturn:  # noqa: ARG002 - aiohttp's
        """Say that there is nobody to answer."""
        raise ConnectionResetError("the client has gone")
