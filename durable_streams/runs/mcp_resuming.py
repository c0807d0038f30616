"""Connections of MCP clients that resume: each has what is there, in one piece, and ends.

Then the client comes again, after the time that the server has told it (``retry_interval``, else
1 s).  By the protocol a server may end such a connection at any time.  That it has to: the SDK's
client (2.3.0, ``_handle_reconnection`` of ``mcp/client/streamable_http.py``) forgets what it got on
a resumed connection that breaks, and asks for it once more, so that it would have it twice; after
the second break it gives up.  One that breaks before anything came is one that loses nothing, and
one that ends properly is counted from the beginning.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Final, TypeAlias

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable, Callable

    from mcp.server.streamable_http import EventMessage

    from durable_streams.runs.mcp_ids import EventId

Send: TypeAlias = "Callable[[Any], Awaitable[None]]"

_LINGER_S: Final = 0.1
"""What the first connection that has an event waits for more."""

_LONGEST_LINGER_S: Final = 30.0
_DOUBLED_EVERY: Final = 30
"""So many connections of one call wait twice as long as those before them."""

_CALLS: Final = 10_000

_MOST: Final = 1000
"""Events of one connection: they wait in memory until it ends."""


def linger_s(before: int) -> float:
    """What a connection waits for more events, of a call that had so many connections before.

    The SDK's client awaits each next one within the last, all through the call, and fails at
    Python's bound of recursion: after some 950.  So there must not be as many within hours.
    """
    doubled = min(before / _DOUBLED_EVERY, 10)  # which is beyond the longest
    return min(_LONGEST_LINGER_S, _LINGER_S * 2**doubled)


class Connections:
    """How many connections the calls had that resume in this process; those it saw last."""

    def __init__(self) -> None:
        self._seen: OrderedDict[tuple[str, str], int] = OrderedDict()

    def one_more(self, last: EventId) -> int:
        """Count a connection; how many there were before it."""
        before = self._seen.pop((last.name, last.stream), 0)
        self._seen[last.name, last.stream] = before + 1
        if len(self._seen) > _CALLS:
            self._seen.popitem(last=False)
        return before


async def in_one_piece(
    events: AsyncGenerator[EventMessage, None], linger_s: float = _LINGER_S
) -> AsyncGenerator[EventMessage, None]:
    """The events that are there, and come within a time after the first one; then it ends."""
    step: asyncio.Future[EventMessage] = asyncio.ensure_future(anext(events))
    try:
        await asyncio.wait({step})
        until = asyncio.get_running_loop().time() + linger_s
        for _ in range(_MOST):
            if not step.done():
                return
            yield step.result()
            step = asyncio.ensure_future(anext(events))
            left_s = until - asyncio.get_running_loop().time()
            await asyncio.wait({step}, timeout=max(0, left_s))
    except StopAsyncIteration:
        return
    finally:
        if not step.done():
            step.cancel()
            with suppress(asyncio.CancelledError, StopAsyncIteration):
                await step
        await events.aclose()


def joined(send: Send) -> Send:
    """Events are sent together with the end: who is killed has sent all of them, or none.

    Comments, which keep a connection open, are sent as they come.
    """
    held: list[bytes] = []

    async def joining(message: Any) -> None:  # noqa: ANN401 - of ASGI
        if message["type"] == "http.response.body":
            body, more = message.get("body", b""), message.get("more_body", False)
            if more and not body.startswith(b":"):
                held.append(body)
                return
            if not more:
                message = message | {"body": b"".join([*held, body])}
                held.clear()
        await send(message)

    return joining
