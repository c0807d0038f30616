"""What an MCP client missed: the events behind one, of its own session, and then those to come."""

from __future__ import annotations

import re
import secrets
from contextlib import aclosing, suppress
from typing import TYPE_CHECKING, Any, Final

from mcp.server.streamable_http import GET_STREAM_KEY, EventMessage
from mcp_types import INTERNAL_ERROR, ErrorData, JSONRPCError, jsonrpc_message_adapter

from durable_streams.model.errors import InvalidRequest, OffsetGone, StreamGone, StreamNotFound
from durable_streams.runs.mcp_calls import (
    Call,
    call_in,
    is_answer,
    is_progress,
    pieces_of,
    result_of,
)
from durable_streams.runs.mcp_ids import EventId
from durable_streams.runs.store import all_json

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from durable_streams.runs.mcp_sessions import Session
    from durable_streams.runs.runs import Runs
    from durable_streams.runs.store import AnyStreams

_NUMBER: Final = re.compile("0|-?[1-9][0-9]{0,15}")
_GONE: Final = "the process that carried this request is gone, or its events are kept no longer"


class Replaying:
    """The events of all sessions below a prefix, for whoever they belong to."""

    def __init__(self, streams: AnyStreams, prefix: str, runs: Runs | None, begin_s: float) -> None:
        """``runs``: which calls are answered by; ``begin_s``: what one may take to begin."""
        self._begin_s = begin_s
        self._streams = streams
        self._prefix = prefix
        self._runs = runs

    async def is_of(self, last: EventId, owner: str) -> bool:
        """Whether an event's session is the one of this id and user."""
        try:
            found = (await self._streams.read_json(self._path(last, last.part))).values
        except (StreamNotFound, StreamGone, InvalidRequest):
            return False
        owners = [v["owner"] for v in found if isinstance(v, dict) and "owner" in v]
        return bool(owners) and secrets.compare_digest(str(owners[0]), owner)

    async def is_read(self, last: EventId) -> bool:
        """Whether nothing is behind an event of a session's own stream, nor will be."""
        path, offset = self._path(last, last.part), last.offset
        try:
            while True:
                found = await self._streams.read_json(path, offset)
                if any(_event(value, last, last.part, "-1") for value in found.values):
                    return False
                if found.up_to_date:
                    break
                offset = found.next_offset
            if not found.closed:
                return False
            await self._streams.get_metadata(self._path(last, last.part + 1))
        except (StreamNotFound, StreamGone, OffsetGone, InvalidRequest):
            return True
        return False

    async def after(
        self, last: EventId, session: Session | None
    ) -> AsyncGenerator[EventMessage, None]:
        """Events of one of a session's streams, also those to come, until it is complete.

        ``session``: if this process carries it.  Who asks has been looked at.
        """
        if last.is_of_run:
            call = await self._call(last, session)
            replayed = _no_more(last) if call is None else self._run(call, last, last.part)
        else:
            replayed = self._stored(last, session)
        async with aclosing(replayed) as events:
            async for event in events:
                yield event

    async def _stored(
        self, last: EventId, session: Session | None
    ) -> AsyncGenerator[EventMessage, None]:
        """Of what is kept no longer it goes on behind that: the answer may be there."""
        part, offset = last.part, last.offset
        while True:
            try:
                async with aclosing(self._streams.tail(self._path(last, part), offset)) as messages:
                    async for message in messages:
                        entry = message.json()
                        if (call := call_in(entry, last.stream)) is not None:
                            async with aclosing(self._run(call, last, part)) as events:
                                async for event in events:
                                    yield event
                            return
                        found = _event(entry, last, part, message.offset)
                        if found is not None:
                            yield found
                            if last.stream != GET_STREAM_KEY and is_answer(found.message):
                                return
            except InvalidRequest:
                return
            except (StreamNotFound, StreamGone, OffsetGone):
                if session is None or part >= session.current:
                    break
                part = max(part, session.oldest - 1)
            part, offset = part + 1, "-1"
        if last.stream != GET_STREAM_KEY:
            yield EventMessage(_lost(_request(last.stream)))

    async def _call(self, last: EventId, session: Session | None) -> Call | None:
        """The call that an event is of: the part says it, or one that came later."""
        for part in (last.part, *(session.parts if session else ())):
            with suppress(StreamNotFound, StreamGone):
                for entry in await all_json(self._streams, self._path(last, part)):
                    if (call := call_in(entry, last.stream)) is not None:
                        return call
        return None

    async def _run(
        self, call: Call, last: EventId, part: int
    ) -> AsyncGenerator[EventMessage, None]:
        """The events that a run is, behind the last one, if that is one of them."""
        if self._runs is None:
            yield EventMessage(_lost(call.id))
            return
        try:
            offset = last.offset if last.is_of_run else "-1"
            reading = pieces_of(self._runs, call.run, self._begin_s, offset)
            async with aclosing(reading) as pieces:
                async for piece in pieces:
                    if call.token is not None and is_progress(piece.value):
                        offset = piece.offset
                        id_ = EventId(last.name, part, last.stream, offset, is_of_run=True)
                        yield EventMessage(call.progress(piece.value), id_.text)
            result = await result_of(self._runs, call.run)
        except (StreamNotFound, StreamGone, OffsetGone):
            yield EventMessage(_lost(call.id))
        except InvalidRequest:
            return
        else:
            id_ = EventId(last.name, part, last.stream, offset, is_of_run=True)
            yield EventMessage(call.answer(result), id_.text)

    def _path(self, last: EventId, part: int) -> str:
        return f"{self._prefix}/{last.name}/{part}"


async def _no_more(last: EventId) -> AsyncGenerator[EventMessage, None]:
    yield EventMessage(_lost(_request(last.stream)))


def _event(entry: Any, last: EventId, part: int, offset: str) -> EventMessage | None:  # noqa: ANN401
    """The event in an entry, None if it is none of this stream."""
    if not isinstance(entry, dict) or entry.get("stream") != last.stream:
        return None
    if entry.get("message") is None:
        return None  # a priming event, which says where a connection began
    message = jsonrpc_message_adapter.validate_python(entry["message"], by_name=False)
    return EventMessage(message, EventId(last.name, part, last.stream, offset).text)


def _request(stream: str) -> str | int:
    """The request of a stream: its id was a number if it reads as one, as most clients' are."""
    return int(stream) if _NUMBER.fullmatch(stream) else stream


def _lost(id_: str | int) -> JSONRPCError:
    """The answer to a request that nobody answers any more."""
    return JSONRPCError(jsonrpc="2.0", id=id_, error=ErrorData(code=INTERNAL_ERROR, message=_GONE))
