"""One exchange, as every front has it: who asks, what is decided, what is told when it is over.

A front (the fast lane, aiohttp's handler in a server or an application) reads requests and sends
answers.  Between the two it does the same as any other, in this order::

    Exchange.pages   whether a web page asks that may   before anything else is said
    parse_command    what is asked for                  (wire.requests)
    Exchange.admit   who asks, if they may              before the body, and before any look
    Exchange.decide  the answer, or a write on its way, or "not now"
    Exchange.later   … the answer then, after a wait
    Exchange.failure the answer to what was raised meanwhile
    Exchange.told    what logs the exchange that is over
    Exchange.counters  what counts it

Everything is decided synchronously, by the verbs of the store that end in ``_now``; only what they
leave is waited for.  Nothing here knows a transport, or aiohttp: another front needs a sender.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import time
from functools import partial
from time import perf_counter
from typing import TYPE_CHECKING, Any, Final, assert_never

from durable_streams.access.door import OPEN
from durable_streams.access.needs import authorize
from durable_streams.access.principals import ANYBODY
from durable_streams.http.counters import BUG, SYSTEM, Counters
from durable_streams.http.decided import EVERYBODY, Admitted, FromFiles, Pending
from durable_streams.http.limits import Limits, network, payer_of
from durable_streams.http.logs import Throttle
from durable_streams.model.commands import Append, Create, Delete, Head, Live, Preflight, Read
from durable_streams.model.errors import (
    Draining,
    Forbidden,
    ForeignPage,
    Overloaded,
    StreamError,
    Unauthenticated,
)
from durable_streams.model.offsets import Start
from durable_streams.rules.media_type import is_program
from durable_streams.wire import caching, replies
from durable_streams.wire.replies import Reply

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager

    from durable_streams.access.door import Credentials, Door, Seen
    from durable_streams.access.principals import Principal
    from durable_streams.http.access_log import Exchanged
    from durable_streams.http.live import LiveReads
    from durable_streams.model.commands import Command, Inspection
    from durable_streams.model.paths import StreamPath
    from durable_streams.model.results import Chunk, StreamRef
    from durable_streams.settings import HttpSettings
    from durable_streams.store import Store, Ticket
    from durable_streams.wire.pages import Pages

_NO_DESCRIPTORS: Final = frozenset({errno.EMFILE, errno.ENFILE})

logger = logging.getLogger("durable_streams")


class Exchange:
    """Decides the requests of a front.

    ``pages``: which web pages are welcome.  ``door``: knows who asks.  ``told``: whoever is told of
    each exchange that is over; None if nobody wants to know.
    """

    def __init__(
        self,
        store: Store,
        settings: HttpSettings,
        live: LiveReads,
        pages: Pages,
        *,
        door: Door = OPEN,
        told: Callable[[Exchanged], None] | None = None,
    ) -> None:
        self.pages = pages
        self.door = door
        self.told = told
        self.counters = Counters()
        self._store = store
        self._live = live
        self._max_age_s = settings.immutable_max_age_s
        self._private = settings.private_caching
        self._throttle = Throttle()
        self.limits = Limits(settings, time.monotonic)

    def admit(
        self,
        command: Command | Inspection,
        credentials: Credentials,
        address: str = "",
        seen: Seen | None = None,
        asked: Exchanged | None = None,
    ) -> Admitted:
        """Who asks for that, if they may: asked here and nowhere else, by every front.

        It is asked when the head was read: before the body is, and before anybody looks at what
        exists, which a refusal must not tell.  ``address``: the client's, if there are limits.
        ``seen``: what is kept with requests that ask for the same with the same credentials.
        ``asked``: is told who asks, also if they may not.  Raises what :meth:`failure` answers.
        """
        if isinstance(command, Preflight) or (self.door.is_open and not self.limits.is_on):
            return EVERYBODY
        admitted = self.identify(credentials, command.path, address, asked)
        self._allow(admitted, command)
        if seen is not None:
            self.door.keep(seen, admitted.principal, admitted)
        return admitted

    def admitted_as_before(self, seen: Seen | None) -> Admitted | None:
        """What :meth:`admit` said of the same request before, if it would say so again.

        ``seen`` is what it was given.  None where each request has to be paid for, or what is known
        of credentials has changed since: then it has to be asked.
        """
        if seen is None or self.limits.is_on or not self.door.still(seen):
            return None
        admitted: Admitted = seen.admitted
        return admitted

    def admit_as(
        self,
        principal: Principal,
        command: Command | Inspection,
        address: str = "",
        asked: Exchanged | None = None,
    ) -> Admitted:
        """The same for whom somebody else has identified, as an application does."""
        admitted = self._paying(principal, address, asked)
        self._allow(admitted, command)
        return admitted

    def identify(
        self,
        credentials: Credentials,
        path: StreamPath | None,
        address: str = "",
        asked: Exchanged | None = None,
    ) -> Admitted:
        """Who asks, whatever for, and has paid for one request: see :meth:`Door.identify`."""
        try:
            principal = self.door.identify(credentials, path)
        except Unauthenticated:
            self.refuses(address)
            raise
        return self._paying(principal, address, asked)

    def identified(
        self, principal: Principal, address: str = "", asked: Exchanged | None = None
    ) -> Admitted:
        """The same of whom somebody else has identified."""
        return self._paying(principal, address, asked)

    def refuses(self, address: str) -> None:
        """Somebody is refused whom nobody knows: their address pays for that."""
        if self.limits.is_on:
            self.limits.take(network(address))

    def _paying(self, principal: Principal, address: str, asked: Exchanged | None) -> Admitted:
        if asked is not None:
            asked.principal = principal.name
        if not self.limits.is_on:
            return Admitted(principal)
        payer = payer_of(principal, address)
        self.limits.take(payer)
        return Admitted(principal, payer)

    def _allow(self, admitted: Admitted, command: Command | Inspection) -> None:
        authorize(admitted.principal, command, conceal=self.door.conceal)

    def decide(
        self,
        command: Command,
        admitted: Admitted,
        body: bytes = b"",
        location: str = "",
    ) -> Reply | FromFiles | Pending | None:
        """Decide what was asked for; None if that takes a wait, which is for :meth:`later`.

        ``body`` is that of a write, ``location`` the URL of the stream that a create is to make.
        Raises what :meth:`failure` answers.
        """
        store = self._store
        if body and admitted.payer:
            self.limits.charge(admitted.payer, len(body))
        ticket: Ticket[Any] | None  # whose outcome is what the answer takes
        answer: Callable[[Any], Reply]
        match command:
            case Append():
                ticket = store.append_now(command, body)
                answer = replies.appended
            case Read(live=Live.NO):
                stream = store.open_now(command.path)
                chunk = None if stream is None else store.read_now(stream, command.start)
                if stream is None or chunk is None:
                    return None
                return self.described(command, admitted, stream, chunk)
            case Create():
                ticket = store.create_now(command, body)
                answer = partial(replies.created, location=location)
            case Preflight():
                return replies.preflight()
            case Read() | Head() | Delete():
                return None
            case _:
                assert_never(command)
        if ticket is None:
            return None
        if ticket.pending:
            return Pending(ticket, answer)
        outcome: Any = ticket.outcome()
        return answer(outcome)

    async def later(
        self,
        command: Command,
        admitted: Admitted,
        body: bytes,
        location: str,
        waiting: Callable[[], AbstractContextManager[None]],
    ) -> Reply | FromFiles:
        """Decide what could not be decided now, and wait for it; see :meth:`decide`.

        ``waiting``: what a long-poll is in while it waits for news.  The events of a read belong to
        its front, which sends them as they come.
        """
        store = self._store
        match command:
            case Append() | Create():
                return await self.write(command, body, location)
            case Read(live=Live.NO):
                stream = await store.open(command.path)
                chunk = await store.read(stream, command.start)
                return self.described(command, admitted, stream, chunk)
            case Read():
                answer = await self.poll(command, admitted, waiting)
                assert answer is not None
                return answer
            case Head():
                return replies.info(await store.head(command.path))
            case Delete():
                await store.delete(command.path)
                return replies.deleted()
            case Preflight():
                return replies.preflight()
            case _:
                assert_never(command)

    async def write(self, command: Append | Create, body: bytes, location: str) -> Reply:
        """Write when it is its turn, and wait until that is durable."""
        if isinstance(command, Append):
            return replies.appended(await self._store.append(command, body))
        return replies.created(await self._store.create(command, body), location)

    async def carry_out(
        self,
        command: Command,
        admitted: Admitted,
        body: bytes,
        location: str,
        waiting: Callable[[], AbstractContextManager[None]],
    ) -> Reply | FromFiles:
        """Decide, and wait for whatever that takes; see :meth:`decide` and :meth:`later`."""
        begin_s = perf_counter()
        decided = self.decide(command, admitted, body, location)
        if decided is None:
            decided = await self.later(command, admitted, body, location, waiting)
        if isinstance(decided, Pending):
            await _settled(decided.ticket)
            decided = decided.reply()
        self.counters.done(command, begin_s)
        return decided

    async def poll(
        self,
        command: Read,
        admitted: Admitted,
        waiting: Callable[[], AbstractContextManager[None]],
        *,
        may_come_again: bool = False,
    ) -> Reply | FromFiles | None:
        """Answer a long-poll.

        ``may_come_again``: the front may have to ask once more, so there is no answer (None) to one
        that begins at the tail, whatever that is just now (``now``, or an offset beyond it): asked
        again, it would miss what came meanwhile.
        """
        stream = await self._store.open(command.path)
        chunk = await self._store.read(stream, command.start)
        if chunk.size_bytes or chunk.closed:
            return self.described(command, admitted, stream, chunk)
        # It is empty, so it holds no files.
        if may_come_again and command.start not in (chunk.start, Start.BEGINNING):
            return None
        with waiting(), self.limits.live_read(admitted.payer):
            chunk = await self._live.wait_for_data(stream, chunk, admitted.principal)
        return self.described(command, admitted, stream, chunk)

    def described(
        self, command: Read, admitted: Admitted, stream: StreamRef, chunk: Chunk
    ) -> Reply | FromFiles:
        """The answer with a chunk, which it holds if there are files in it."""
        try:
            cursor = None
            if command.live is Live.LONG_POLL:
                cursor = self._live.cursor(command.cursor)
                if not chunk.size_bytes:
                    return replies.long_poll_empty(chunk.end, chunk.closed, cursor)
            from_now = command.start is Start.NOW
            tag = None if from_now else caching.etag(chunk)
            cache_control = caching.cache_control(
                sealed=not chunk.at_tail,
                from_now=from_now,
                max_age_s=self._max_age_s,
                private=self._private or admitted.principal is not ANYBODY,
                program=is_program(stream.content_type),
                left_s=None if chunk.at_tail else self._store.left_s(stream),
            )
            headers = replies.chunk_reply_headers(chunk, cache_control, tag, cursor)
            if admitted.principal is not ANYBODY:
                headers += replies.BY_CREDENTIALS
            if tag and command.if_none_match and caching.matches(command.if_none_match, tag):
                with chunk:
                    return replies.not_modified(headers)
            if admitted.payer:
                self.limits.charge(admitted.payer, chunk.size_bytes)
            body = replies.chunk_body(chunk)
            if isinstance(body, bytes):
                return Reply(200, headers, body)
            return FromFiles(Reply(200, headers), body, chunk)
        except BaseException:
            chunk.release()
            raise

    def first_events(self, command: Read, stream: StreamRef, chunk: Chunk) -> Reply:
        """How a read of events is answered that begins with a chunk: 204 if none will follow."""
        if command.resumed and chunk.closed and chunk.end == command.start:
            return replies.nothing_follows(chunk.end)
        return Reply(200, replies.sse_headers(stream.content_type))

    def refuse_writes(self) -> None:
        """Raise why no write is taken now, if none is: then its body need not be read."""
        refusal = self._store.refusal()
        if refusal is not None:
            raise refusal.again()

    def failure(
        self, error: Exception, method: str, target: str, *, of_producer: bool = False
    ) -> Reply:
        """Describe the answer to a request that failed, and log what is not the client's doing.

        ``of_producer``: it had Producer headers.
        """
        fields = {"method": method, "path": target}
        match error:
            case ForeignPage() if method == "OPTIONS":
                self.counters.refused(error)
                # Without an origin that is allowed a browser asks for nothing more.
                return replies.preflight()
            case Unauthenticated() | Forbidden():
                self.counters.refused(error)
                self._log(type(error).__name__, f"refused: {error}", fields, logging.INFO)
                return replies.errors(error, of_producer=of_producer)
            case StreamError():
                self.counters.refused(error)
                reply = replies.errors(error)
                if reply.status >= 500 and not isinstance(error, Draining):
                    self._log(type(error).__name__, f"{error}", fields)
                return reply
            case OSError(errno=number) if number in _NO_DESCRIPTORS:
                return self.failure(
                    Overloaded("the server is out of file descriptors"), method, target
                )
            case OSError():  # the system failed, which is no bug of ours
                self.counters.failed(SYSTEM)
                self._log("OSError", f"a request failed: {error}", fields)
            case _:
                self.counters.failed(BUG)
                self._log(type(error).__name__, "bug: a request failed", fields, bug=error)
        return replies.internal_error()

    def _log(
        self,
        kind: str,
        message: str,
        fields: dict[str, str],
        level: int = logging.ERROR,
        *,
        bug: Exception | None = None,
    ) -> None:
        """Log what happens again and again, but not without end."""
        left_out = self._throttle.passes(kind)
        if left_out is None:
            return
        extra: dict[str, object] = {"error": kind, **fields}
        if left_out:
            extra["left_out"] = left_out
        logger.log(level, "%s", message, extra=extra, exc_info=bug)


async def _settled(ticket: Ticket[object]) -> None:
    """Return when a write is settled; whoever leaves meanwhile does not stop it."""
    settled = asyncio.get_running_loop().create_future()
    ticket.when_settled(lambda: None if settled.done() else settled.set_result(None))
    await settled
