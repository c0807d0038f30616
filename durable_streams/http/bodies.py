"""Request bodies: whole, within a size, within a time, and within what memory there is.

The limit is checked against ``Content-Length`` before anything is read, and against what has
come while a body is read.  A client may be slow, but not without end: it has ``timeout_s``, and one
second more for every ``SLOWEST_BYTES_PER_S`` it has sent.

All bodies of a server share a :class:`BodyBudget`, from their first byte until their answer: a
thousand clients that send large bodies slowly must not take all memory.  What does not fit is
:class:`Overloaded`.  The first ``FREE_BYTES`` of each body do not count, so that small appends
are taken whatever the large ones do.
"""

from __future__ import annotations

import asyncio
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

from durable_streams.model.errors import Overloaded, PayloadTooLarge, RequestTimeout
from durable_streams.settings import KIB

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator

SLOWEST_BYTES_PER_S: Final = 16 * KIB
"""Below what any network of today carries; it only stops those who send a byte now and then."""

FREE_BYTES: Final = 64 * KIB
"""Of every body; a connection's buffers take about as much anyway."""

_LARGE_PIECE_BYTES: Final = 4 * KIB


class BodyBudget:
    """How many bytes of request bodies one server may hold at a time."""

    def __init__(self, limit_bytes: int) -> None:
        self.limit_bytes = limit_bytes
        self.used_bytes = 0

    @contextmanager
    def share(self) -> Iterator[BodyShare]:
        """Give one request its share, for as long as it holds its body."""
        share = BodyShare(self)
        try:
            yield share
        finally:
            self.used_bytes -= share.bytes


class BodyShare:
    """What one request holds of a :class:`BodyBudget`."""

    __slots__ = ("_budget", "bytes")

    def __init__(self, budget: BodyBudget) -> None:
        self._budget = budget
        self.bytes = 0

    def grow(self, size_bytes: int) -> None:
        """Hold a body of this size by now; :class:`Overloaded` if there is no room for it."""
        more = size_bytes - FREE_BYTES - self.bytes
        if more <= 0:
            return
        budget = self._budget
        if budget.used_bytes + more > budget.limit_bytes:
            raise Overloaded("too many large request bodies at a time")
        budget.used_bytes += more
        self.bytes += more


async def receive_body(
    next_piece: Callable[[], Awaitable[bytes]], limit_bytes: int, timeout_s: float, share: BodyShare
) -> bytes:
    """Return a body that comes in pieces, the last of them empty; ``share`` then holds it.

    Raises :class:`PayloadTooLarge`, :class:`RequestTimeout`, :class:`Overloaded`, and what
    ``next_piece`` raises, but that a ``TimeoutError`` is taken for one of ours.
    """
    loop = asyncio.get_running_loop()
    begin_s = loop.time()
    pieces = _Pieces()
    try:
        async with asyncio.timeout(timeout_s) as patience:
            while piece := await next_piece():
                size_bytes = pieces.size_bytes + len(piece)
                if size_bytes > limit_bytes:
                    raise PayloadTooLarge(limit_bytes)
                share.grow(size_bytes)
                pieces.add(piece)
                patience.reschedule(begin_s + timeout_s + size_bytes / SLOWEST_BYTES_PER_S)
    except TimeoutError:
        raise RequestTimeout(
            f"the body did not arrive within {timeout_s:g} s: use durable-streams append for what "
            "has no end"
        ) from None
    return pieces.join()


class _Pieces:
    """A body on its way: large pieces as they came, and small ones joined at once.

    A list of small ones would take up to forty times as much memory as the body.
    """

    def __init__(self) -> None:
        self.size_bytes = 0
        self._pieces: list[bytes] = []
        self._small = bytearray()

    def add(self, piece: bytes) -> None:
        """Take the next piece."""
        self.size_bytes += len(piece)
        if len(piece) < _LARGE_PIECE_BYTES:
            self._small += piece
        else:
            self._seal_small()
            self._pieces.append(piece)

    def join(self) -> bytes:
        """Everything taken."""
        self._seal_small()
        return b"".join(self._pieces)

    def _seal_small(self) -> None:
        if self._small:
            self._pieces.append(bytes(self._small))
            self._small.clear()
