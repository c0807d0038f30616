"""Calls of MCP tools that are answered by a run: what of it is a notification, what the result.

An item ``{"progress": 1, "total": 3, "message": "…"}`` is a notification of progress; of these
``progress`` has to be there.  All others are the result, a text each, and so is the reason of a run
that did not end well.  Nothing else is asked, so any process makes the same messages of a run.
"""

from __future__ import annotations

import asyncio
from collections import deque
from contextlib import aclosing
from typing import TYPE_CHECKING, Any, Final

from mcp_types import (
    CallToolResult,
    ContentBlock,
    JSONRPCError,
    JSONRPCMessage,
    JSONRPCNotification,
    JSONRPCResponse,
    TextContent,
)

from durable_streams.model.errors import StreamNotFound
from durable_streams.runs.pieces import json_of
from durable_streams.runs.states import State

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from durable_streams.runs.runs import Runs
    from durable_streams.runs.states import End, Piece

_PROGRESS: Final = "notifications/progress"
_AHEAD: Final = 64
"""The SDK has one notification on its way, and one that waits; others it has dropped."""

BEGIN_S: Final = 15.0
"""What a run may take to begin: somebody else may have been told to start it just now."""

_LOOK_S: Final = 0.1
"""Between looks for it: before it has begun there is nothing to follow."""


class Call:
    """One request that a run answers."""

    def __init__(self, run: str, id_: str | int, token: str | int | None) -> None:
        """``id_``: of the request; ``token``: of its notifications, None if it wants none."""
        self.run: Final = run
        self.id: Final = id_
        self.token: Final = token
        self._position = "-1"
        self._ahead: deque[str] = deque(maxlen=_AHEAD)

    def entry(self, stream: str) -> bytes:
        """As a session's stream has it."""
        told = {"stream": stream, "run": self.run, "id": self.id, "token": self.token}
        return json_of(told)

    def expect(self, offset: str) -> None:
        """The next notification has the item before this offset."""
        self._ahead.append(offset)

    def place(self, message: JSONRPCMessage | None) -> str:
        """The offset behind a message of this call, which is on its way."""
        is_progress = isinstance(message, JSONRPCNotification) and message.method == _PROGRESS
        if is_progress and self._ahead:
            self._position = self._ahead.popleft()
        return self._position

    def progress(self, item: dict[str, Any]) -> JSONRPCNotification:
        """The notification that an item is."""
        params: dict[str, Any] = {"progressToken": self.token}
        params |= {key: item[key] for key in ("progress", "total", "message") if key in item}
        return JSONRPCNotification(jsonrpc="2.0", method=_PROGRESS, params=params)

    def answer(self, result: CallToolResult) -> JSONRPCResponse:
        """The answer to the request, as the SDK makes it."""
        dumped = result.model_dump(by_alias=True, mode="json", exclude_none=True)
        return JSONRPCResponse(jsonrpc="2.0", id=self.id, result=dumped)


def call_in(entry: Any, stream: str) -> Call | None:  # noqa: ANN401 - a value of JSON
    """The call that an entry of a session's stream is about, None if it is none of this request."""
    if not isinstance(entry, dict) or entry.get("stream") != stream or "run" not in entry:
        return None
    return Call(entry["run"], entry["id"], entry["token"])


def is_progress(item: object) -> bool:
    """Whether an item is a notification, and not of the result."""
    if not isinstance(item, dict):
        return False
    progress = item.get("progress")
    return isinstance(progress, (int, float)) and not isinstance(progress, bool)


def is_answer(message: JSONRPCMessage | None) -> bool:
    """Whether nothing comes behind a message, in the stream of a request."""
    return isinstance(message, JSONRPCResponse | JSONRPCError)


class Result:
    """What a run's items come to."""

    def __init__(self) -> None:
        self._texts: list[str] = []

    def take(self, item: object) -> None:
        """An item that is no notification."""
        self._texts.append(item if isinstance(item, str) else json_of(item).decode())

    def given(self, end: End) -> CallToolResult:
        """As a tool returns it."""
        is_error = end.state is not State.DONE
        texts = [*self._texts, end.reason or end.state.value] if is_error else self._texts
        content: list[ContentBlock] = [TextContent(type="text", text=text) for text in texts]
        return CallToolResult(content=content, is_error=is_error)


async def pieces_of(
    runs: Runs, name: str, begin_s: float, offset: str = "-1"
) -> AsyncGenerator[Piece, None]:
    """As ``Runs.read``, of a run that may be about to begin.

    Raises ``StreamNotFound`` if it does not within ``begin_s``.
    """
    clock = asyncio.get_running_loop().time
    until = clock() + begin_s
    while True:
        try:
            await runs.status(name)
            break
        except StreamNotFound:
            if clock() >= until:
                raise
        await asyncio.sleep(_LOOK_S)
    async with aclosing(runs.read(name, offset)) as pieces:
        async for piece in pieces:
            yield piece


async def result_of(runs: Runs, name: str) -> CallToolResult:
    """What a whole run comes to, which has ended."""
    result = Result()
    async with aclosing(runs.read(name)) as pieces:
        async for piece in pieces:
            if piece.end is not None:
                return result.given(piece.end)
            if not is_progress(piece.value):
                result.take(piece.value)
    raise RuntimeError("a run that is read has an end")
