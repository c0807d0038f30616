"""aiohttp's front: its requests, read, decided by the exchange, and answered.

One :class:`StreamsHandler` serves one store, in a server of its own or in an application.  What all
fronts do is in ``front``; here is what takes aiohttp.
"""

from __future__ import annotations

import asyncio
import time
from inspect import isawaitable
from time import perf_counter
from typing import TYPE_CHECKING, Any, Final, NoReturn

from aiohttp import web

from durable_streams.access.door import OPEN
from durable_streams.http.access_log import CLIENT_LEFT
from durable_streams.http.body import read_body
from durable_streams.http.decided import FromFiles
from durable_streams.http.event_stream import EventStream
from durable_streams.http.front import Front
from durable_streams.http.presence import PresenceConnection, cancelled_when_gone
from durable_streams.http.sending import Answer, Sender
from durable_streams.model.errors import Forbidden, Unauthenticated
from durable_streams.wire.pages import OPEN_TO_ALL
from durable_streams.wire.urls import Address, stream_url

if TYPE_CHECKING:
    import random as random_module
    from collections.abc import Callable, Mapping
    from contextlib import AbstractContextManager

    from multidict import MultiMapping

    from durable_streams.access.door import Door
    from durable_streams.access.principals import Principal
    from durable_streams.http.access_log import Exchanged
    from durable_streams.http.askers import Authorize
    from durable_streams.http.bodies import BodyShare
    from durable_streams.http.control import Control
    from durable_streams.http.decided import Begun
    from durable_streams.model.paths import StreamPath
    from durable_streams.settings import HttpSettings
    from durable_streams.store import Store
    from durable_streams.wire.pages import Pages
    from durable_streams.wire.replies import Common, Reply


_SENDING: Final = web.RequestKey("durable_streams.sending", Answer)
"""Where a request keeps its answer while that is being sent, piece by piece."""


class Asking:
    """A request of aiohttp's, as ``Incoming``."""

    __slots__ = ("for_application", "headers", "method", "peername", "target")

    def __init__(self, request: web.BaseRequest) -> None:
        self.for_application = request
        self.method = request.method
        self.target = request.raw_path
        self.headers: MultiMapping[str] = request.headers
        self.peername: Any = request.protocol.peername

    @property
    def received_bytes(self) -> int:
        """How much of its body has come so far."""
        return self.for_application.content.total_bytes

    def came_in_at(self) -> Address:
        """Where it came in."""
        return _came_in_at(self.for_application.protocol)

    def live_read(self) -> AbstractContextManager[None]:
        """Cancel the task when the client leaves meanwhile."""
        return cancelled_when_gone(self.for_application)

    async def body(self, limit_bytes: int, timeout_s: float, share: BodyShare) -> bytes:
        """Return its body, which ``share`` then holds; see :func:`read_body`."""
        return await read_body(self.for_application, limit_bytes, timeout_s, share)


class StreamsHandler(Front[Asking, web.StreamResponse]):
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
        """See :class:`Front`; ``authorize`` may raise what aiohttp has for 401 and 403."""
        self.sender = Sender(stall_timeout_s=settings.stall_timeout_s, clock=clock)
        super().__init__(
            store,
            settings,
            pages,
            door,
            self.sender.turns,
            authorize=None if authorize is None else _translated(authorize),
            control=control,
            lists=lists,
            clock=clock,
            random=random,
        )

    def drain(self) -> None:
        """End live reads cleanly, and every connection with its next answer."""
        self.sender.closing = True
        super().drain()

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
        asking = Asking(request)
        asked = self.begin(asking) if begun is None else begun.asked
        try:
            if begun is None:
                answer = await self.answer_below(asking, asked, prefix, raw_path, raw_query)
            else:
                answer = await self._end(asking, begun)
        except BaseException:  # a cancellation: the client has gone
            self.tell(asking, asked, None)
            raise
        finally:
            self.active.discard(task)
        self.tell(asking, asked, answer)
        return answer

    async def _end(self, asking: Asking, begun: Begun) -> web.StreamResponse:
        """End what another front has begun: a read whose answer is not in memory."""
        try:
            found: Reply | FromFiles | None = begun.found
            if found is None:
                begin_s = perf_counter()
                found = await self.exchange.later(
                    begun.command, begun.admitted, b"", "", asking.live_read
                )
                self.counters.done(begun.command, begin_s)
            return await self.send(asking, found, begun.common)
        except ConnectionError:
            return self.nothing(asking)
        except Exception as error:  # noqa: BLE001 - whatever it is, the client gets an answer
            return await self.fail(asking, begun.asked, error, begun.common)

    def tell(
        self, asking: Asking, asked: Exchanged | None, answer: web.StreamResponse | None
    ) -> None:
        """Count an exchange that is over, and tell of it; None: its client has gone."""
        request = asking.for_application
        status, sent_bytes, counted_bytes = CLIENT_LEFT, 0, 0
        sent = answer if isinstance(answer, Answer) else request.get(_SENDING)
        if isinstance(sent, Answer) and (sent is answer or sent.is_out):
            status, sent_bytes = sent.status, sent.sent_bytes(request)
            counted_bytes = 0 if sent.length_bytes is None else sent_bytes  # events were already
        self.over(asking, asked, status, sent_bytes, counted_bytes)

    async def send(
        self, request: Asking, found: Reply | FromFiles, common: Common, *, last: bool = False
    ) -> web.StreamResponse:
        """The answer, sent if it is in files, and else to be sent by aiohttp."""
        if not isinstance(found, FromFiles):
            answer = self.sender.answer(found, common)
            if last:
                answer.force_close()
            return answer
        asked = request.for_application
        answer = asked[_SENDING] = self.sender.answer(found.reply, common)
        with found:
            await self.sender.send_plan(asked, answer, found.plan)
        return answer

    async def open_events(self, request: Asking, reply: Reply, common: Common) -> EventStream:
        """Prepare an answer of events."""
        asked = request.for_application
        events = await EventStream.open(self.sender, asked, reply, common, self.counters)
        asked[_SENDING] = events.answer
        return events

    def nothing(self, request: Asking) -> web.StreamResponse:  # noqa: ARG002 - see Front
        """Have aiohttp drop the connection silently."""
        return _Nothing()

    async def metrics_for(self, request: web.BaseRequest, raw_query: str) -> web.StreamResponse:
        """Answer with the metrics, wherever they are asked for, as pages of this host may."""
        asking = Asking(request)
        asked = self.begin(asking, "other")
        answer = await self.answer_metrics(asking, asked, raw_query)
        self.tell(asking, asked, answer)
        return answer

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
        own = _came_in_at(connection)
        return stream_url(target, headers, own, prefix, path, is_forwarded=is_forwarded)


def _came_in_at(connection: web.RequestHandler) -> Address:
    return Address.of(connection.sockname, is_secure=connection.ssl_context is not None)


def _translated(authorize: Authorize) -> Authorize:
    """The same, whose refusals are those of all fronts."""

    async def identified(request: web.BaseRequest) -> Principal | None:
        try:
            found = authorize(request)
            return await found if isawaitable(found) else found
        except web.HTTPUnauthorized as error:
            raise Unauthenticated(error.text or error.reason) from None
        except web.HTTPForbidden as error:
            raise Forbidden(error.text or error.reason) from None

    return identified


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
