"""The fast lane: plain small writes and reads, long-polls too, answered where their bytes arrive.

aiohttp spends a task, a request and a response on every message, which costs several times what
the append itself does.  The lane answers without them what is *plain* (``heads``), one whole
request with nothing behind it, if it is a write or its answer is in memory.  All else goes to
aiohttp as it came, or once a long-poll has found that memory does not answer it.

Nothing here reads HTTP, or decides anything: the parser and the exchange are those of the other
way.  So both give the same answers, and ``HttpSettings.fast_lane`` may switch this one off.

One rule keeps the two apart: aiohttp's parser is given whole requests only, so that it is between
two of them whenever the lane looks at what comes next.  A connection on which that is not certain
(a head in pieces, pipelining, ``Transfer-Encoding``) is aiohttp's for the rest of its life.

Whether aiohttp waits for a request, with nothing of one under way, is told by ``aiohttp_private``.
"""

from __future__ import annotations

import asyncio
from bisect import bisect_left
from time import perf_counter
from typing import TYPE_CHECKING, Any, Final

from durable_streams.access.door import NOTHING_SHOWN, Credentials
from durable_streams.http.access_log import CLIENT_LEFT, Exchanged
from durable_streams.http.bounded_parser import MAX_HEAD_BYTES
from durable_streams.http.decided import Begun, FromFiles, Pending
from durable_streams.http.heads import Heads
from durable_streams.http.presence import MAX_BEHIND_BYTES, PresenceConnection
from durable_streams.measuring import SECONDS
from durable_streams.model.commands import Append, Create, Live, Read
from durable_streams.model.paths import path_text
from durable_streams.wire.replies import FOR_NO_PAGE, Reply

if TYPE_CHECKING:
    from collections.abc import Callable

    from aiohttp import web

    from durable_streams.http.decided import Admitted
    from durable_streams.http.exchange import Exchange
    from durable_streams.http.handler import StreamsHandler
    from durable_streams.http.heads import ParserLimits, PlainCommand, RequestHead
    from durable_streams.model.commands import Command
    from durable_streams.wire.replies import Common

PATIENCE_S: Final = 1.0
"""How long a body may be on its way, in one more piece; else the request is aiohttp's, with its
longer timeout."""

_METHODS: Final[dict[type[Command], str]] = {Append: "POST", Create: "PUT", Read: "GET"}


class FastLane:
    """What the lanes of one server's connections share."""

    def __init__(
        self,
        handler: StreamsHandler,
        prefix: str,
        limits: ParserLimits,
        patience_s: float = PATIENCE_S,
    ) -> None:
        """``patience_s``: see ``PATIENCE_S``."""
        self.exchange = handler.exchange
        self.counters = handler.exchange.counters
        self.sender = handler.sender
        self.patience_s = patience_s
        self.location = handler.location
        self.peers = handler.peers
        self.heads = Heads(prefix, handler.max_body_bytes, limits, handler.exchange.pages)
        self.answering: set[LaneConnection] = set()  # with a request under way
        self.finished: asyncio.Future[None] | None = None

    async def finish(self) -> None:
        """Return when no request is under way here."""
        if self.answering:
            self.finished = asyncio.get_running_loop().create_future()
            await self.finished

    async def poll(
        self, command: Read, admitted: Admitted, connection: LaneConnection
    ) -> Reply | FromFiles | None:
        """Answer a long-poll; None if it is to be made again, and aiohttp's to send from files."""
        return await self.exchange.poll(
            command, admitted, connection.live_read, may_come_again=True
        )


class LaneConnection(PresenceConnection):
    """A connection of aiohttp's with a fast lane.

    ``_turn``: the long-poll, or the write that waits for its turn, which end if the client leaves.
    ``_outcome``: makes the answer of the request that is under way; raises what that failed with.
    ``_command``: what that is, and ``_common`` the headers that its answer begins with.
    ``_poll``: the bytes of the long-poll that is under way; ``_begun``: what it has begun with.
    ``_asked``: what is told of what is under way, if somebody wanted to be told when it came.
    ``_begin_s``: when that was there, if its time counts, else 0.
    ``_pieces``: what came of a request that is not whole yet, or behind the one that is being
    answered.  ``_passing_bytes``: how much of a request that aiohttp has begun is still to come.
    """

    __slots__ = (
        "_asked",
        "_begin_s",
        "_begun",
        "_command",
        "_common",
        "_lane",
        "_outcome",
        "_passing_bytes",
        "_patience",
        "_pieces",
        "_poll",
        "_stalled",
        "_turn",
    )

    def __init__(
        self,
        server: web.Server,
        lane: FastLane | None,
        **settings: Any,  # noqa: ANN401 - aiohttp's, and the stall timeout
    ) -> None:
        super().__init__(server, **settings)
        self._outcome: Callable[[], Reply | FromFiles | None] | None = None
        self._lane = lane
        self._pieces = b""
        self._passing_bytes = 0
        self._command: PlainCommand | None = None
        self._common = FOR_NO_PAGE
        self._poll = b""
        self._begun: Begun | None = None
        self._begin_s = 0.0
        self._patience: asyncio.Handle | None = None
        self._stalled: asyncio.TimerHandle | None = None
        self._asked: Exchanged | None = None
        self._turn: asyncio.Task[Any] | None = None

    # -- from the transport ----------------------------------------------------------------

    def data_received(self, data: bytes) -> None:
        """Answer a plain request, or give what came to aiohttp."""
        lane = self._lane
        if lane is None or not data or self._waits:  # without data aiohttp goes on parsing
            self.pass_on(data)
        elif self._outcome is not None:  # behind a request that is being answered
            self._pieces += data
            if len(self._pieces) > MAX_BEHIND_BYTES:
                self.pause_transport()
        elif self._passing_bytes:
            self._pass_rest(data)
        else:
            self._take(lane, data)

    def is_at_rest(self) -> bool:
        """Whether no request is under way, here or at aiohttp."""
        return self._outcome is None and not self._pieces and super().is_at_rest()

    def connection_lost(self, exc: BaseException | None) -> None:
        """Forget what has not come whole, polls or waits its turn; a write under way goes on."""
        for waiting in (self._patience, self._stalled, self._turn):
            if waiting is not None:
                waiting.cancel()
        handed, self.handed = self.handed, None
        if handed is not None:  # and aiohttp's handler has not begun
            self._gone(handed)
        super().connection_lost(exc)

    def is_busy(self) -> bool:
        """Whether something is under way that aiohttp does not see."""
        return self._outcome is not None or bool(self._pieces)

    def resume_writing(self) -> None:
        """The client takes what it was sent."""
        if self._stalled is not None:
            self._stalled.cancel()
            self._stalled = None
        super().resume_writing()

    # -- the lane --------------------------------------------------------------------------

    def pass_on(self, data: bytes) -> None:
        """Give bytes to aiohttp."""
        super().data_received(data)

    def _take(self, lane: FastLane, data: bytes) -> None:
        is_second_piece = bool(self._pieces)
        if is_second_piece:
            data, self._pieces = self._pieces + data, b""
            if self._patience is not None:
                self._patience.cancel()
        end = data.find(b"\r\n\r\n") + 4
        head = lane.heads.read(data[:end]) if 3 < end <= MAX_HEAD_BYTES else None
        missing = 0 if head is None else end + head.body_bytes - len(data)
        if head is None or missing < 0:
            self._lane = None
            self.pass_on(data)
        elif head.command is None or (missing and is_second_piece):
            self._passing_bytes = missing
            self.pass_on(data)
        elif not self.is_idle():
            if is_second_piece or not self._may_be_idle_soon():
                self._passing_bytes = missing
                self.pass_on(data)
            else:
                self._pieces = data
                self._patience = self.loop.call_soon(self._take, lane, b"")
        elif missing:
            self._pieces = data
            self._patience = self.loop.call_later(lane.patience_s, self._hand_over, missing)
        elif not self._answer(lane, head, data, data[end:]):
            self.pass_on(data)

    def end_input(self) -> None:
        """All that will come is here: what of it is not whole is for aiohttp to refuse."""
        if self._pieces and self._outcome is None:
            if self._patience is not None:
                self._patience.cancel()
            data, self._pieces = self._pieces, b""
            self._lane = None
            self.pass_on(data)
        super().end_input()

    def _may_be_idle_soon(self) -> bool:
        """Whether aiohttp's task may have yet to learn that it answered, or that it is to wait."""
        return self.is_between() and not (
            self.is_answering or self.has_more() or self.is_closing or self.writing_paused
        )

    def _pass_rest(self, data: bytes) -> None:
        self._passing_bytes -= len(data)
        if self._passing_bytes < 0:  # the next request came in one piece with the end of this one
            self._lane = None
        self.pass_on(data)

    def _hand_over(self, missing: int) -> None:
        """The rest of a body takes its time: let aiohttp wait for it."""
        data, self._pieces = self._pieces, b""
        self._passing_bytes = missing
        self.pass_on(data)

    def _answer(self, lane: FastLane, head: RequestHead, data: bytes, body: bytes) -> bool:
        """Answer a plain request, now or when its answer is there; False if aiohttp has to."""
        command, exchange = head.command, lane.exchange
        assert command is not None
        self._begin_s = perf_counter()
        if body:
            lane.counters.received_bytes += len(body)
        asked = self._asked = None if exchange.told is None else self._begin(head, data)
        location = address = ""
        try:
            admitted = exchange.admitted_as_before(head.seen)
            if admitted is None:
                if exchange.limits.is_on:
                    address = lane.peers.client(self.peername, head.forwarded_for)
                shown = head.credentials
                credentials = NOTHING_SHOWN if shown is None else Credentials(shown)
                admitted = exchange.admit(command, credentials, address, head.seen, asked)
            if asked is not None:
                asked.principal = admitted.principal.name
            if isinstance(command, Create):
                headers, prefix = head.headers or {}, lane.heads.prefix
                location = lane.location(self, head.target, headers, prefix, command.path)
            decided = exchange.decide(command, admitted, body, location)
        except Exception as error:  # noqa: BLE001 - whatever it is, the client gets an answer
            self._begin_s = 0.0
            self._send(lane, command, _failure(exchange, error, command, asked), head.common)
            return True
        if isinstance(decided, Pending):
            self._outcome, self._command, self._common = decided.reply, command, head.common
            lane.answering.add(self)
            decided.ticket.when_settled(self._settled)
        elif decided is None:
            return self._wait_for(lane, head, admitted, data, location)
        elif isinstance(decided, FromFiles):
            self.handed = Begun(command, admitted, head.common, decided, asked)
            lane.counters.done(command, self._begin_s)
            return False
        else:
            self._send(lane, command, decided, head.common)
        return True

    def _wait_for(
        self,
        lane: FastLane,
        head: RequestHead,
        admitted: Admitted,
        data: bytes,
        location: str,
    ) -> bool:
        """Answer what could not be decided now; False if aiohttp has to."""
        command = head.command
        assert command is not None
        task: asyncio.Task[Reply | FromFiles | None] | asyncio.Task[Reply]
        if not isinstance(command, Read):
            body = data[len(data) - head.body_bytes :]
            task = self.loop.create_task(lane.exchange.write(command, body, location))
        elif command.live is Live.NO:
            self.handed = Begun(command, admitted, head.common, None, self._asked)
            return False
        else:
            self._poll, self._begin_s = data, 0.0
            self._begun = Begun(command, admitted, head.common, None, self._asked)
            task = self.loop.create_task(lane.poll(command, admitted, self))
        self._turn, self._outcome = task, task.result
        self._command, self._common = command, head.common
        lane.answering.add(self)
        task.add_done_callback(self._settled)
        return True

    def _settled(self, _: object = None) -> None:
        """The write is durable or has failed, the long-poll has something or its time is over."""
        lane, outcome, command = self._lane, self._outcome, self._command
        assert lane is not None
        assert outcome is not None
        assert command is not None
        poll, self._poll = self._poll, b""
        begun, self._begun = self._begun, None
        self._outcome = self._command = self._turn = None
        lane.answering.discard(self)
        if lane.finished is not None and not lane.answering and not lane.finished.done():
            lane.finished.set_result(None)
        try:
            reply = outcome()
        except (asyncio.CancelledError, ConnectionError):
            # The client left, or sends no more and waits for nothing.
            self._left(lane, command)
            self.force_close()
            return
        except Exception as error:  # noqa: BLE001 - whatever it is, the client gets an answer
            self._begin_s = 0.0
            reply = _failure(lane.exchange, error, command, self._asked)
        is_answered = isinstance(reply, Reply)
        if isinstance(reply, Reply):
            self._send(lane, command, reply, self._common)
        else:
            self._hand(lane, begun, reply, poll)
        if self.transport is not None and (self._pieces or self._dropped or self.sends_no_more):
            self._go_on(is_answered=is_answered)

    def _hand(
        self, lane: FastLane, begun: Begun | None, found: FromFiles | None, poll: bytes
    ) -> None:
        """Have aiohttp's handler end a long-poll, with what it has found in files if it has."""
        assert begun is not None
        if self.transport is not None:
            self.stay()
            command, admitted, common, _, asked = begun
            self.handed = Begun(command, admitted, common, found, asked)
            self.pass_on(poll)
            return
        self._left(lane, begun.command)
        if found is not None:
            with found:
                """The client has gone."""

    def _go_on(self, *, is_answered: bool) -> None:
        """Give to aiohttp what came behind the request that was answered, or that it now has."""
        if self._dropped:
            self._pieces = b""
            if is_answered:
                self.force_close()
        elif self._pieces:
            data, self._pieces = self._pieces, b""
            self.resume_transport()
            self._lane = None  # the client pipelines
            self.pass_on(data)
        if self.sends_no_more:
            self.end_input()

    def _send(self, lane: FastLane, command: PlainCommand, reply: Reply, common: Common) -> None:
        transport, sender = self.transport, lane.sender
        if transport is None or transport.is_closing():
            self._left(lane, command)
            return
        self.stay()
        transport.write(sender.whole(reply, common))
        begin_s, body = self._begin_s, reply.body
        if begin_s and reply.status < 300:  # all of it here, as nearly every request comes by
            took_s = perf_counter() - begin_s
            tally = lane.counters.in_lane[type(command)]
            tally.counts[bisect_left(SECONDS, took_s)] += 1
            tally.total += took_s
            if body:
                lane.counters.sent_bytes += len(body)
        else:
            lane.counters.answered(_METHODS[type(command)], reply.status, len(body))
            if begin_s:
                lane.counters.done(command, begin_s)
        if self._asked is not None:
            self._tell(lane, reply.status, len(body))
        if sender.closing:
            self.force_close()
        elif self.writing_paused and self._stalled is None:
            self._stalled = self.loop.call_later(self._stall_timeout_s, transport.abort)

    def _begin(self, head: RequestHead, data: bytes) -> Exchanged:
        """What is told of a request at its end."""
        method, target, _ = data.split(None, 2)
        return Exchanged(
            method.decode(),
            target.decode("utf-8", "surrogateescape"),
            self.peername,
            head.forwarded_for,
            head.request_id,
            self.loop.time(),
            command=head.command,
            received_bytes=head.body_bytes,
        )

    def _left(self, lane: FastLane, command: Command) -> None:
        """The client went away before its answer."""
        lane.counters.answered(_METHODS[type(command)], CLIENT_LEFT, 0)
        self._tell(lane, CLIENT_LEFT, 0)

    def _gone(self, handed: Begun) -> None:
        """The client went away before aiohttp's handler had its request."""
        if handed.found is not None:
            with handed.found:
                """It is released."""
        if self._lane is not None:
            self._asked = handed.asked
            self._left(self._lane, handed.command)

    def _tell(self, lane: FastLane, status: int, sent_bytes: int) -> None:
        """Tell whoever wanted to know that an exchange is over."""
        asked, self._asked = self._asked, None
        if asked is not None and lane.exchange.told is not None:
            asked.over(status, sent_bytes, self.loop.time())
            lane.exchange.told(asked)


def _failure(
    exchange: Exchange, error: Exception, command: PlainCommand, asked: Exchanged | None
) -> Reply:
    """The answer to a command that failed."""
    if asked is not None:
        asked.error = type(error).__name__
    claims = isinstance(command, Append) and command.producer is not None
    method, path = _METHODS[type(command)], path_text(command.path)
    return exchange.failure(error, method, path, of_producer=claims)
