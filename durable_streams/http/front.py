"""What every front does with a request: read it, have it decided, and answer it in its own way.

:class:`Front` has what goes with one store: the exchange, the live readers, the metrics, and what
is below ``__ds``.  A front is a subclass that makes an ``Incoming`` of what it is given, and puts
answers on the wire.  A request that fails gets the status of its error, a bug gets 500 and one
traceback in the log, and a client that went away gets nothing.
"""

from __future__ import annotations

import asyncio
import random as random_module
from abc import ABC, abstractmethod
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Generic, Protocol, TypeVar

from durable_streams.http.access_log import AccessLog, Exchanged
from durable_streams.http.askers import Askers
from durable_streams.http.below_control import BelowControl
from durable_streams.http.bodies import BodyBudget
from durable_streams.http.console import COMMON, MODES, PATH, Console, is_visit, leads_to
from durable_streams.http.event_reader import BATCH_BYTES, Events
from durable_streams.http.exchange import Exchange
from durable_streams.http.incoming import Incoming
from durable_streams.http.listing import Lists
from durable_streams.http.live import LiveReads
from durable_streams.http.logs import made_id
from durable_streams.http.metrics import Metrics
from durable_streams.http.peers import Peers
from durable_streams.model.commands import Append, Create, Live, Read
from durable_streams.model.errors import ForeignHost, StreamError
from durable_streams.model.paths import is_reserved
from durable_streams.wire import caching
from durable_streams.wire.replies import FOR_NO_PAGE
from durable_streams.wire.request_ids import request_id
from durable_streams.wire.requests import claims_producer, parse_command
from durable_streams.wire.signed_query import redacted
from durable_streams.wire.urls import (
    authority,
    forwarded_for,
    is_stripped,
    public_prefix,
    stream_url,
)

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager

    from durable_streams.access.door import Door
    from durable_streams.http.askers import Authorize
    from durable_streams.http.control import Control
    from durable_streams.http.decided import Admitted, FromFiles
    from durable_streams.http.turns import Turns
    from durable_streams.model.commands import Command
    from durable_streams.model.paths import StreamPath
    from durable_streams.settings import HttpSettings
    from durable_streams.store import Store
    from durable_streams.wire.pages import Pages
    from durable_streams.wire.replies import Common, Reply

R = TypeVar("R", bound=Incoming)
"""What a front has of a request."""

A = TypeVar("A")
"""What it knows of the answer: enough to count it."""

A_co = TypeVar("A_co", covariant=True)


class EventAnswer(Events, Protocol[A_co]):
    """An answer that is sent as its events come; ``answer``: what is counted at its end."""

    @property
    def answer(self) -> A_co:
        """What is counted."""

    async def finish(self) -> None:
        """End it cleanly."""

    def under_way(self) -> AbstractContextManager[None]:
        """Send events meanwhile, and count them.

        A failure that leaves no clean end cuts the connection off; before the head it does.
        """


class Front(ABC, Generic[R, A]):
    """Serves one store, below one prefix or several."""

    def __init__(
        self,
        store: Store,
        settings: HttpSettings,
        pages: Pages,
        door: Door,
        turns: Turns,
        *,
        authorize: Authorize | None,
        control: Control | None,
        lists: bool,
        clock: Callable[[], float],
        random: random_module.Random | None,
    ) -> None:
        """``clock`` is in seconds since 1970; ``random`` spreads cursors and lifetimes.

        ``pages``: which web pages are welcome.  ``door``: knows who asks, unless ``authorize``
        does.  ``turns``: those of who reads from files.  ``control``: answers what is below
        ``__ds``.  ``lists``: whether streams are listed there.  ``ValueError`` if caches might mix
        up streams that were at one path after each other.
        """
        _check_caching(store, settings)
        self.store = store
        self.settings = settings
        self.live = LiveReads(
            store,
            settings,
            turns,
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
        self.console = Console(settings.console) if settings.console in MODES else None

    def use(self, settings: HttpSettings) -> None:
        """Go on with other settings, which differ in *reloadable* ones only (``model/setting``).

        They count for what is asked from now on.
        """
        self.settings = self.live.settings = settings
        self.exchange.limits.use(settings)
        log = AccessLog(self.peers, settings.access_log_sample) if settings.access_log else None
        self.exchange.told = log

    def drain(self) -> None:
        """End live reads cleanly: whoever serves is going down."""
        self.live.drain()

    # What a front has to have

    @abstractmethod
    async def send(
        self, request: R, found: Reply | FromFiles, common: Common, *, last: bool = False
    ) -> A:
        """Answer a request; ``last``: nothing else on its connection is meant for us."""

    @abstractmethod
    async def open_events(self, request: R, reply: Reply, common: Common) -> EventAnswer[A]:
        """Begin an answer of events; nothing is sent before the first of them."""

    @abstractmethod
    def nothing(self, request: R) -> A:
        """What there is of an answer to a client that went away."""

    # Exchanges

    def begin(self, request: R, kind: str = "", *, is_read: bool = True) -> Exchanged | None:
        """What is told of a request at its end; None if nobody wants to be told.

        ``is_read``: else its head could not be, and what it says is not known.
        """
        if self.exchange.told is None:
            return None
        return Exchanged(
            request.method,
            request.target,
            request.peername,
            forwarded_for(request.headers) if is_read else "",
            request_id(request.headers, made_id) if is_read else "",
            asyncio.get_running_loop().time(),
            kind,
        )

    def called(self, request: R, asked: Exchanged | None) -> str:
        """What a request says that it is called, for its answer; "" if it does not."""
        return request_id(request.headers, made_id) if asked is None else asked.request_id

    def over(
        self,
        request: R,
        asked: Exchanged | None,
        status: int,
        sent_bytes: int,
        counted_bytes: int,
    ) -> None:
        """Count an exchange that is over, and tell of it.

        ``counted_bytes``: those of ``sent_bytes`` that were not counted as they went.
        """
        self.counters.answered(request.method, status, counted_bytes)
        told = self.exchange.told
        if asked is None or told is None:
            return
        asked.received_bytes = request.received_bytes
        asked.over(status, sent_bytes, asyncio.get_running_loop().time())
        told(asked)

    async def answer_below(
        self, request: R, asked: Exchanged | None, prefix: str, raw_path: str, raw_query: str
    ) -> A:
        """Answer a request for what is at ``raw_path`` below ``prefix`` (no slash between)."""
        exchange = self.exchange
        called = self.called(request, asked)
        common = exchange.pages.default.with_id(called)
        try:
            host = authority(request.target)
            of_console = await self._of_console(request, host, prefix, raw_path)
            if of_console is not None:
                if asked is not None:
                    asked.kind = "control"
                return await self.send(request, of_console, COMMON.with_id(called))
            is_control = is_reserved(raw_path)
            if is_control:
                common = FOR_NO_PAGE.with_id(called)
            page = exchange.pages.admit(host, request.headers, for_all=not is_control)
            common = page.with_id(called)
            if is_control:
                reply = await self._below_control(request, asked, prefix, raw_path, raw_query)
                if reply is not None:
                    return await self.send(request, reply, common)
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
            return await self.send(request, found, common)
        except ConnectionError:
            return self.nothing(request)
        except Exception as error:  # noqa: BLE001 - whatever it is, the client gets an answer
            return await self.fail(request, asked, error, common)

    async def fail(
        self, request: R, asked: Exchanged | None, error: Exception, common: Common
    ) -> A:
        """Answer a request that failed."""
        if asked is not None:
            asked.error = type(error).__name__
        method, target = request.method, redacted(request.target)
        of_producer = claims_producer(method, request.headers)
        reply = self.exchange.failure(error, method, target, of_producer=of_producer)
        return await self.send(request, reply, common, last=isinstance(error, ForeignHost))

    async def answer_metrics(self, request: R, asked: Exchanged | None, raw_query: str) -> A:
        """Answer with the metrics, wherever they are asked for, as pages of this host may."""
        called = self.called(request, asked)
        common = FOR_NO_PAGE.with_id(called)
        host = authority(request.target)
        try:
            common = self.exchange.pages.admit(host, request.headers, for_all=False).with_id(called)
            reply = await self.below_control.metrics(request, raw_query, asked)
            return await self.send(request, reply, common)
        except Exception as error:  # noqa: BLE001 - whatever it is, the client gets an answer
            return await self.fail(request, asked, error, common)

    async def _carry_out(
        self, request: R, prefix: str, command: Command, admitted: Admitted
    ) -> Reply | FromFiles:
        """Read the body of a write, unless writes are refused anyway, and have it carried out."""
        if not isinstance(command, Append | Create):
            return await self.exchange.carry_out(command, admitted, b"", "", request.live_read)
        location = ""
        if isinstance(command, Create):
            location = self._url_of(request, prefix, command.path)
        with self.bodies.share() as share:
            self.exchange.refuse_writes()
            timeout_s = self.settings.body_timeout_s
            try:
                body = await request.body(self.max_body_bytes, timeout_s, share)
            except (StreamError, ConnectionError):  # what came of it came all the same
                self.counters.received_bytes += request.received_bytes
                if admitted.payer:
                    self.exchange.limits.charge(admitted.payer, request.received_bytes)
                raise
            self.counters.received_bytes += len(body)
            return await self.exchange.carry_out(
                command, admitted, body, location, request.live_read
            )

    async def _below_control(
        self,
        request: R,
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

    def way_to_console(self, request: R, path: str, prefix: str) -> Reply | None:
        """What leads somebody on who opened the server's own address; None if nothing does."""
        if self.console is None or path not in {"/", prefix} or not is_visit(request):
            return None
        segments = prefix.split("/")
        return leads_to("/".join([*segments[1 if path == "/" else -1 :], PATH, ""]))

    async def _of_console(self, request: R, host: str, prefix: str, raw_path: str) -> Reply | None:
        """Answer a request for the console, or of a visitor to the root; None if it is neither."""
        console = self.console
        if console is None:
            return None
        is_root = not raw_path and is_visit(request)
        if not is_root and not console.knows(raw_path):
            return None
        self.exchange.pages.admit_host(host, request.headers)
        if is_root:
            return leads_to(f"{PATH}/")
        url_of = partial(self._url_of, request, prefix)
        return await console.answer(request.method, raw_path, request.headers, url_of)

    def _seen_below(self, request: R, prefix: str) -> str:
        """The path below which whoever asks sees the streams, as it names the source of a fork."""
        if is_stripped(request.headers) and self.peers.is_trusted(request.peername):
            return public_prefix(request.headers, prefix)
        return prefix

    def _url_of(self, request: R, prefix: str, path: StreamPath) -> str:
        """The URL of a stream, as who asks sees it."""
        is_forwarded = self.peers.is_trusted(request.peername)
        own = request.came_in_at()
        headers = request.headers
        return stream_url(request.target, headers, own, prefix, path, is_forwarded=is_forwarded)

    async def _send_events(
        self, request: R, command: Read, admitted: Admitted, common: Common
    ) -> A:
        """Answer with a stream's events until it, the client or the lifetime ends."""
        store, live = self.store, self.live
        stream = await store.open(command.path)
        with (
            store.following(stream),
            await store.read(stream, command.start, max_bytes=BATCH_BYTES) as chunk,
        ):
            reply = self.exchange.first_events(command, stream, chunk)
            if reply.status != 200:
                return await self.send(request, reply, common)
            events = await self.open_events(request, reply, common)
            cursor = live.cursor(command.cursor)
            limits, payer = self.exchange.limits, admitted.payer
            charge = partial(limits.charge, payer) if payer else None
            with (
                limits.live_read(payer),
                live.reader(
                    stream, events, chunk, cursor, admitted.principal, charge=charge
                ) as reader,
                events.under_way(),
                request.live_read(),
            ):
                # If the stream is no more, the client learns why when it reconnects.
                with suppress(StreamError):
                    await reader.run(chunk)
                await events.finish()
            return events.answer


def _check_caching(store: Store, settings: HttpSettings) -> None:
    """``ValueError`` if caches might mix up streams that were at one path after each other."""
    least_s = caching.kept_s(settings.immutable_max_age_s)
    if store.remember_removed_s < least_s:
        raise ValueError(
            f"caches may keep pieces of streams for {least_s} s (immutable_max_age_s is "
            f"{settings.immutable_max_age_s}), and the streams remember removed paths for "
            f"{store.remember_removed_s} s only: open them with "
            f"Settings(remember_removed_s={least_s})"
        )
