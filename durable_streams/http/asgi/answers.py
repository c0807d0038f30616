"""Answers as ASGI's messages.

The server's ``send`` waits while the client takes nothing, which bounds what is in memory of an
answer: the piece that is being sent, and of events a buffer as large as that of a transport.  A
client that takes nothing for ``patience_s`` is cut off: the application returns without the end of
the answer, and the server ends the connection (in HTTP/2 the stream), so that no client takes what
it has for the whole.
"""

from __future__ import annotations

import asyncio
from contextlib import contextmanager
from functools import lru_cache
from typing import TYPE_CHECKING, Final

from durable_streams.http.access_log import CLIENT_LEFT
from durable_streams.http.patience import HIGH_WATER_BYTES, cut_off, stalled
from durable_streams.http.slices import pieces_of
from durable_streams.settings import KIB
from durable_streams.wire.replies import has_no_body, told_length

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator

    from durable_streams.http.asgi.requests import AsgiRequest, Message
    from durable_streams.http.counters import Counters
    from durable_streams.http.turns import Turns
    from durable_streams.wire.replies import BodyPlan, Common, Header, HeaderList, Reply

    Send = Callable[[Message], Awaitable[None]]
    Fields = list[tuple[bytes, bytes]]

PIECE_BYTES: Final = 64 * KIB
"""Of a file, in one message: a server may hold so much beside what its transport does."""

_CLOSE: Final = (b"connection", b"close")


class Answer:
    """The answer to one request, as far as it is out.

    ``status``: 0 until its head is.  ``sent_bytes``: of its body.  ``are_counted``: by others.
    """

    __slots__ = ("_patience_s", "_request", "_send", "are_counted", "sent_bytes", "status")

    def __init__(self, request: AsgiRequest, send: Send, patience_s: float) -> None:
        self._request = request
        self._send = send
        self._patience_s = patience_s
        self.status = 0
        self.sent_bytes = 0
        self.are_counted = False

    async def whole(self, reply: Reply, common: Common, *, last: bool) -> None:
        """Send a reply; ``last``: nothing else that comes on its connection is for us."""
        head = self._head(reply, common, len(reply.body), last=last)
        body = b"" if has_no_body(reply.status, self._request.method) else reply.body
        await self._hand(head, self._piece(body, more=False))

    async def from_files(self, reply: Reply, plan: BodyPlan, common: Common, turns: Turns) -> None:
        """Send an answer whose body is in files; they must stay open until this returns."""
        await self._hand(self._head(reply, common, plan.size_bytes))
        try:
            if plan.prefix:
                await self._body(plan.prefix)
            for part in plan.parts:
                if isinstance(part, bytes):
                    await self._body(part)
                    continue
                async for piece in pieces_of(part, PIECE_BYTES, turns):
                    await self._body(piece)
            await self._body(plan.suffix, more=False)
        except ConnectionError:
            raise
        except Exception as error:
            raise cut_off(error, self._request.target) from error

    async def begin_events(self, reply: Reply, common: Common) -> None:
        """Send the head of an answer that has events, behind which the connection ends (§5.8)."""
        self.are_counted = True
        await self._hand(self._head(reply, common, None, last=True))

    async def events(self, data: bytes, *, more: bool = True) -> None:
        """Send events."""
        await self._body(data, more=more)

    async def to_nobody(self) -> None:
        """Send an answer if there is none, as the client has left: what is around us wants one."""
        if not self.status:
            self.status = CLIENT_LEFT
            await self._hand(
                {"type": "http.response.start", "status": CLIENT_LEFT, "headers": []},
                {"type": "http.response.body", "body": b""},
            )

    def _head(
        self, reply: Reply, common: Common, length_bytes: int | None, *, last: bool = False
    ) -> Message:
        """The message that begins the answer, which from now on counts as begun."""
        fields: Fields = [*_common_fields(common.headers), *map(_field, reply.headers)]
        length = told_length(reply.status, self._request.method, length_bytes)
        if length is not None:
            fields.append((b"content-length", b"%d" % length))
        # Only connections of HTTP/1 have one request after the other.
        if last and self._request.for_application["http_version"].startswith("1"):
            fields.append(_CLOSE)
        self.status = reply.status
        return {"type": "http.response.start", "status": reply.status, "headers": fields}

    def _piece(self, data: bytes, *, more: bool) -> Message:
        self.sent_bytes += len(data)
        return {"type": "http.response.body", "body": data, "more_body": more}

    async def _body(self, data: bytes, *, more: bool = True) -> None:
        await self._hand(self._piece(data, more=more))

    async def _hand(self, *messages: Message) -> None:
        """Hand messages to the server; :class:`ConnectionResetError` if nobody takes them."""
        try:
            async with asyncio.timeout(self._patience_s):
                for message in messages:
                    await self._send(message)
        except TimeoutError:
            request = self._request
            peer = request.peername
            address = peer[0] if isinstance(peer, tuple) else peer
            raise stalled(self._patience_s, request.target, address) from None
        except OSError as error:
            raise ConnectionResetError("the client has gone") from error


@lru_cache(64)  # nearly all answers of a server have the same few
def _common_fields(headers: HeaderList) -> tuple[tuple[bytes, bytes], ...]:
    return tuple(map(_field, headers))


def _field(header: Header) -> tuple[bytes, bytes]:
    name, value = header
    return name.lower().encode(), value.encode("utf-8", "surrogateescape")


class AsgiEvents:
    """An answer that is sent as its events come (:class:`live.Events`).

    What is pushed waits in a buffer, and a task sends it while there is some: the store that
    publishes waits for nobody.
    """

    chunked = False  # framing is the server's

    __slots__ = (
        "_buffer",
        "_buffered_bytes",
        "_counters",
        "_head",
        "_is_broken",
        "_loop",
        "_request",
        "_room",
        "_sender",
        "answer",
    )

    def __init__(
        self,
        request: AsgiRequest,
        answer: Answer,
        head: tuple[Reply, Common],
        counters: Counters,
    ) -> None:
        self._request = request
        self.answer = answer
        self._head: tuple[Reply, Common] | None = head
        self._counters = counters
        self._loop = asyncio.get_running_loop()
        self._buffer: list[bytes] = []
        self._buffered_bytes = 0  # and what is being sent
        self._sender: asyncio.Task[None] | None = None
        self._room: asyncio.Future[None] | None = None
        self._is_broken = False

    @property
    def pushed_bytes(self) -> int:
        """What it has sent so far, which is counted at the end."""
        return self.answer.sent_bytes

    @property
    def _is_full(self) -> bool:
        return self._buffered_bytes >= HIGH_WATER_BYTES

    def frame(self, data: bytes) -> bytes:
        """The events as they are: framing is the server's."""
        return data

    def push(self, framed: bytes) -> bool:
        """Send events if there is room; False if not, or if the client has gone."""
        if self._is_full or self._is_broken:
            return False
        self._put(framed)
        return True

    async def write(self, framed: bytes) -> None:
        """Send events, the first time with the head, and wait until there is room."""
        self._put(framed)
        await self.drain()

    async def drain(self) -> None:
        """Wait until there is room; the client is cut off if there is none in time."""
        while self._is_full and not self._is_broken:
            await self._wait()
        self._check()

    async def finish(self) -> None:
        """End the answer cleanly."""
        while self._sender is not None:
            await self._wait()
        self._check()
        await self._begin()
        await self.answer.events(b"", more=False)

    @contextmanager
    def under_way(self) -> Iterator[None]:
        """Send events meanwhile, and count them.

        Nothing more is sent on failure; before the head is out somebody else may answer.
        """
        self._counters.following.add(self)
        try:
            yield
        except (ConnectionError, asyncio.CancelledError):
            raise
        except Exception as error:
            if not self.answer.status:
                raise
            raise cut_off(error, self._request.target) from error
        finally:
            if self._sender is not None:
                self._sender.cancel()
            self._counters.following.discard(self)
            self._counters.sent_bytes += self.pushed_bytes

    def _put(self, framed: bytes) -> None:
        self._buffer.append(framed)
        self._buffered_bytes += len(framed)
        if self._sender is None:
            self._sender = self._loop.create_task(self._send())

    async def _send(self) -> None:
        """Send what waits, and what comes meanwhile."""
        try:
            await self._begin()
            while self._buffer:
                data = b"".join(self._buffer)
                self._buffer.clear()
                await self.answer.events(data)
                self._buffered_bytes -= len(data)
                self._tell_room()
        except ConnectionError:
            self._break()
        except Exception as error:  # noqa: BLE001 - whatever it is, nobody else looks at this task
            cut_off(error, self._request.target)
            self._break()
        finally:
            self._sender = None
            self._tell_room()

    async def _begin(self) -> None:
        head, self._head = self._head, None
        if head is not None:
            await self.answer.begin_events(*head)

    def _break(self) -> None:
        self._is_broken = True
        self._request.leave()

    def _check(self) -> None:
        if self._is_broken:
            raise ConnectionResetError("the client has gone")

    async def _wait(self) -> None:
        """Wait for the next message to be sent."""
        self._room = self._loop.create_future()
        try:
            await self._room
        finally:
            self._room = None

    def _tell_room(self) -> None:
        if self._room is not None and not self._room.done():
            self._room.set_result(None)
