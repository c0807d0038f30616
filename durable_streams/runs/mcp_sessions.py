"""The events of one MCP session, in the process that carries it: streams, one after another.

Each is a part that has so many entries, and is held as a run holds its own, so that others know
when its process is gone.  It begins with whose the session is, and with the calls under way that
runs answer:

    {"owner": DIGEST}                                       whose it is
    {"stream": ID, "run": NAME, "id": ID, "token": TOKEN}   a request that a run answers
    {"stream": ID, "message": MESSAGE}                      an event of a request, or of the session
"""

from __future__ import annotations

import asyncio
import secrets
from contextlib import suppress
from typing import TYPE_CHECKING, Final

from durable_streams.model.commands import ProducerClaim
from durable_streams.model.errors import StreamClosed, StreamExists, StreamGone, StreamNotFound
from durable_streams.runs.formats import JSON
from durable_streams.runs.mcp_ids import EventId
from durable_streams.runs.pieces import json_of
from durable_streams.runs.store import until_it_works

if TYPE_CHECKING:
    from durable_streams.runs.mcp_calls import Call
    from durable_streams.runs.runs import Runs
    from durable_streams.runs.store import AnyStreams


class Session:
    """The events of one session, which this process carries."""

    def __init__(self, streams: AnyStreams, runs: Runs, keep: int) -> None:
        self.name: Final = secrets.token_hex(16)
        self._streams = streams
        self._runs = runs
        self._keep = keep
        self._part = 0
        self._path = ""
        self._seq = 0
        self._owner = ""
        self._is_over = False
        self._turn = asyncio.Lock()
        self.id = ""
        self.requests = 0
        self.calls: Final[dict[str, Call]] = {}  # those under way that runs answer

    @property
    def oldest(self) -> int:
        """The part that its events begin in, those that are kept."""
        return max(0, self._part - 1)

    @property
    def parts(self) -> range:
        """Those that are kept."""
        return range(self.oldest, self._part + 1)

    def part(self, number: int) -> str:
        """The name of a part of its events, as a run."""
        return f"{self.name}/{number}"

    async def store(self, stream: str, message: bytes) -> str:
        """Store an event; its id.  ``RuntimeError`` when the session is over."""
        async with self._turn:
            await self._make_room()
            entry = b'{"stream":%b,"message":%b}' % (json_of(stream), message)
            return EventId(self.name, self._part, stream, await self._append(entry)).text

    async def begin_call(self, stream: str, call: Call) -> None:
        """Have it known that a run answers a request, before any event of it is told."""
        async with self._turn:
            await self._make_room()
            await self._append(call.entry(stream))
            self.calls[stream] = call

    def in_run(self, stream: str, offset: str) -> str:
        """The id of an event of a call that a run answers."""
        return EventId(self.name, self._part, stream, offset, is_of_run=True).text

    async def bind(self, owner: str) -> None:
        """Have it known whose it is, before any id of it is told."""
        async with self._turn:
            self._owner = owner
            if self._path:
                await self._append(json_of({"owner": owner}))

    async def end(self) -> None:
        """It is over: who follows it is told."""
        async with self._turn:
            self._is_over = True
            for part in self.parts:
                with suppress(StreamNotFound, StreamGone):
                    await self._runs.release(self.part(part))

    async def _make_room(self) -> None:
        if self._is_over:  # nobody would end the part that it began
            raise RuntimeError("the session is over, and keeps nothing more")
        if self._seq >= self._keep:
            await self._cut()

    async def _append(self, entry: bytes) -> str:
        while True:
            try:
                if not self._path:
                    await self._begin_part(self._part)
                return await self._append_one(entry)
            except (StreamClosed, StreamNotFound, StreamGone):
                # It expired, or this process was silent for too long: the next part begins.
                before, self._path, self._part = self._part, "", self._part + 1
                await self._begin_part(self._part)
                await self._runs.release(self.part(before))

    async def _begin_part(self, part: int) -> None:
        while True:
            try:
                self._path = await self._runs.hold(self.part(part), JSON)
                break
            except StreamExists:  # it was begun, and then the store was out of order
                part += 1
        self._part, self._seq = part, 0
        if self._owner:
            await self._append_one(json_of({"owner": self._owner}))
        for stream, call in self.calls.items():
            await self._append_one(call.entry(stream))

    async def _append_one(self, entry: bytes) -> str:
        claim = ProducerClaim("session", 0, self._seq)
        result = await until_it_works(
            lambda: self._streams.append(
                self._path, entry, content_type=JSON.content_type, producer=claim
            )
        )
        self._seq += 1
        return result.next_offset

    async def _cut(self) -> None:
        """Begin the next part, and delete the one before the last."""
        full = self._part
        await self._begin_part(full + 1)  # first: who follows the full one goes on there
        await self._runs.release(self.part(full))
        if full > 0:
            await self._runs.delete(self.part(full - 1))
