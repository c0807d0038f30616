"""Runs as answers over HTTP, for any framework: a status, headers, and a body that it streams.

    StreamingResponse(reply.body, reply.status, reply.headers)                 FastAPI, Starlette
    StreamingHttpResponse(reply.body, status=reply.status, headers=reply.headers)        Django

A body ends when the run has ended.  Who leaves costs the run nothing: who comes back is answered
anew, from the beginning or from where an ``EventSource`` was.  While a run is silent a comment goes
out every 15 s, for proxies that cut silent connections.
"""

from __future__ import annotations

import asyncio
from contextlib import aclosing, suppress
from typing import TYPE_CHECKING, Final, NamedTuple

from durable_streams.model.errors import InvalidOffset, OffsetGone, StreamGone, StreamNotFound
from durable_streams.runs.pieces import json_of
from durable_streams.runs.states import End, Piece, State

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable

    from durable_streams.runs.runs import Runs

COMMENT_S: Final = 15.0
_DONE: Final = b"data: [DONE]\n\n"
_EVENTS: Final = {
    "content-type": "text/event-stream",
    "cache-control": "no-cache, no-transform",
    "x-accel-buffering": "no",  # nginx sends it on as it comes
}


class Reply(NamedTuple):
    """What to answer; ``body`` gives bytes, and is empty where there is none."""

    status: int
    headers: dict[str, str]
    body: AsyncGenerator[bytes, None]


async def events(runs: Runs, name: str, last_event_id: str | None = None) -> Reply:
    """A run for an ``EventSource`` of the browser, which resumes by itself.

    Each item is an event with JSON as its data, and with an id, which the browser sends along as
    ``Last-Event-ID`` when it comes back: hand that over.  The last event is of type ``end``, with
    ``{"state": …, "reason": …}``, upon which a page closes its ``EventSource``; one that does not
    is answered 204, which ends it as well.  404 if there is no such run.
    """
    try:
        status = await runs.status(name)
        tail = await runs.tail_of(name)
    except (StreamNotFound, StreamGone):
        return empty(404)
    if status.state.is_over and last_event_id == tail:
        return empty(204)
    return Reply(200, dict(_EVENTS), _beating(_as_events(runs, name, last_event_id or "-1")))


async def _as_events(runs: Runs, name: str, offset: str) -> AsyncGenerator[bytes, None]:
    try:
        async with aclosing(runs.read(name, offset)) as pieces:
            async for piece in pieces:
                yield _event(piece)
    except (InvalidOffset, OffsetGone, StreamNotFound, StreamGone):
        yield _event(Piece(None, offset, End(State.FAILED, "there is nothing at this place")))


def _event(piece: Piece) -> bytes:
    name = b"" if piece.end is None else b"event: end\n"
    value = piece.value if piece.end is None else piece.end.plain()
    return b"%bid: %b\ndata: %b\n\n" % (name, piece.offset.encode(), json_of(value))


async def ui_messages(runs: Runs, name: str) -> Reply:
    """A run of ``UI_MESSAGES`` for the AI SDK's ``useChat``, from its beginning on, as it wants it.

    What POST answers, and GET if ``Runs.latest`` says that it is running; else that is 204.
    """
    headers = _EVENTS | {"x-vercel-ai-ui-message-stream": "v1"}
    return await _from_the_beginning(runs, name, headers, lambda _: _DONE)


async def openai_chunks(runs: Runs, name: str) -> Reply:
    """A run of ``OPENAI`` as its API streams: ``data:`` with chunks, ``[DONE]``, or an error."""
    return await _from_the_beginning(runs, name, _EVENTS, _openai_end)


def _openai_end(end: End) -> bytes:
    if end.state in {State.DONE, State.STOPPED}:
        return _DONE
    error = {"message": end.reason, "type": "server_error", "code": end.state.value, "param": None}
    return b"data: %b\n\n" % json_of({"error": error}) + _DONE


async def _from_the_beginning(
    runs: Runs, name: str, headers: dict[str, str], last: Callable[[End], bytes]
) -> Reply:
    try:
        await runs.status(name)
    except (StreamNotFound, StreamGone):
        return empty(404)
    return Reply(200, dict(headers), _beating(_data(runs, name, last)))


async def _data(runs: Runs, name: str, last: Callable[[End], bytes]) -> AsyncGenerator[bytes, None]:
    async with aclosing(runs.read(name)) as pieces:
        async for piece in pieces:
            if piece.end is not None:
                yield last(piece.end)
            else:
                yield b"data: %b\n\n" % json_of(piece.value)


async def text(runs: Runs, name: str) -> Reply:
    """A run of ``TEXT`` as plain text; 404 if there is no such run."""
    try:
        await runs.status(name)
    except (StreamNotFound, StreamGone):
        return empty(404)
    headers = {"content-type": "text/plain; charset=utf-8", "cache-control": "no-cache"}
    return Reply(200, headers | {"x-accel-buffering": "no"}, _text(runs, name))


async def _text(runs: Runs, name: str) -> AsyncGenerator[bytes, None]:
    async with aclosing(runs.read(name)) as pieces:
        async for piece in pieces:
            if piece.end is None:
                yield str(piece.value).encode()


def reference(url: str | None, *, is_new: bool = False) -> Reply:
    """Where a run's stream is, for ``@durable-streams/aisdk-transport``: it reads that itself.

    ``url``: what browsers reach it by, such as ``/v1/stream/`` and ``Run.path``; None: there is
    none to resume (204).  ``is_new``: it has just begun (201).
    """
    if url is None:
        return empty(204)
    headers = {
        "content-type": "application/json",
        "location": url,
        "cache-control": "no-store",
        "access-control-expose-headers": "Location",
    }
    return Reply(201 if is_new else 200, headers, _once(json_of({"streamUrl": url})))


def empty(status: int) -> Reply:
    """An answer without a body."""
    return Reply(status, {"cache-control": "no-store"}, _once(b""))


async def _once(data: bytes) -> AsyncGenerator[bytes, None]:
    if data:
        yield data


async def _beating(source: AsyncGenerator[bytes, None]) -> AsyncGenerator[bytes, None]:
    """The same, with comments while it is silent."""
    step: asyncio.Task[bytes] | None = None
    try:
        while True:
            step = step or asyncio.ensure_future(anext(source))
            done, _ = await asyncio.wait({step}, timeout=COMMENT_S)
            if not done:
                yield b":\n\n"
                continue
            try:
                data = step.result()
            except StopAsyncIteration:
                return
            finally:
                step = None
            yield data
    finally:
        if step is not None:
            step.cancel()
            with suppress(asyncio.CancelledError, StopAsyncIteration):
                await step
        await source.aclose()
