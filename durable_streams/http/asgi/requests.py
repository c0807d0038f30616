"""A request of an ASGI server, as :class:`~durable_streams.http.incoming.Incoming`.

Messages are received by one at a time: by whoever reads the body, and then by whoever waits for
``http.disconnect`` during a live read.  Nothing else asks whether the client is there: what takes a
moment only is carried out, and its answer goes nowhere.
"""

from __future__ import annotations

import asyncio
import logging
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

from multidict import CIMultiDict

from durable_streams.http.asgi.scopes import came_in_at, peername_of, target_of
from durable_streams.http.bodies import receive_body
from durable_streams.model.errors import PayloadTooLarge

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator, MutableMapping

    from durable_streams.http.asgi.scopes import Scope
    from durable_streams.http.bodies import BodyShare
    from durable_streams.wire.urls import Address

    Message = MutableMapping[str, Any]

logger = logging.getLogger("durable_streams")

_MAX_LENGTH_DIGITS: Final = 19
"""Of a length that is looked at before the body is; what is more is no number of any server."""


class AsgiRequest:
    """One request.

    ``_reads``: the task of its live read, which ends when the client leaves.
    """

    __slots__ = (
        "_has_left",
        "_reads",
        "_receive",
        "for_application",
        "headers",
        "is_whole",
        "method",
        "peername",
        "received_bytes",
        "target",
    )

    def __init__(self, scope: Scope, receive: Callable[[], Awaitable[Message]]) -> None:
        self._receive = receive
        self._reads: asyncio.Task[Any] | None = None
        self._has_left = False
        self.for_application = scope
        self.method: str = scope["method"]
        self.target = target_of(scope)
        self.headers: CIMultiDict[str] = CIMultiDict(
            [
                (name.decode("latin-1"), value.decode("utf-8", "surrogateescape"))
                for name, value in scope["headers"]
            ]
        )
        self.peername = peername_of(scope)
        self.received_bytes = 0
        self.is_whole = False

    def came_in_at(self) -> Address:
        """Where it came in."""
        return came_in_at(self.for_application)

    # The body

    async def body(self, limit_bytes: int, timeout_s: float, share: BodyShare) -> bytes:
        """Return its body, which ``share`` then holds; see :class:`Incoming`."""
        length = self.headers.get("Content-Length", "")
        if length.isascii() and length.isdecimal() and len(length) <= _MAX_LENGTH_DIGITS:
            announced_bytes = int(length)
            if announced_bytes > limit_bytes:
                raise PayloadTooLarge(limit_bytes)
        return await receive_body(self._next_piece, limit_bytes, timeout_s, share)

    async def _next_piece(self) -> bytes:
        """The next bytes of the body; none if that is all."""
        while not self.is_whole:
            message = await self._receive()
            if message["type"] == "http.disconnect":
                raise ConnectionResetError("the client went away while sending a body")
            self.is_whole = not message.get("more_body", False)
            piece: bytes = message.get("body", b"")
            if piece:
                self.received_bytes += len(piece)
                return piece
        return b""

    # Whether the client is there

    @contextmanager
    def live_read(self) -> Iterator[None]:
        """End what waits for news as soon as the client leaves: :class:`ConnectionResetError`."""
        if self._has_left:
            raise ConnectionResetError("the client has gone")
        task = asyncio.current_task()
        assert task is not None
        cancelled_before = task.cancelling()
        self._reads = task
        watcher = asyncio.create_task(self._until_gone())
        try:
            yield
        except asyncio.CancelledError:
            if self._is_over() and task.uncancel() <= cancelled_before:
                raise ConnectionResetError("the client has gone") from None
            raise
        finally:
            self._reads = None
            watcher.cancel()

    def _is_over(self) -> bool:
        return self._has_left

    async def _until_gone(self) -> None:
        """Wait for the client to leave; what else it sends is dropped."""
        try:
            while (await self._receive())["type"] != "http.disconnect":
                pass
        except Exception:
            logger.exception("the ASGI server fails to say whether a client is there")
        self.leave()

    def leave(self) -> None:
        """The client has left, or takes nothing."""
        task, self._reads = self._reads, None
        if task is not None:
            self._has_left = True
            task.cancel()
