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
import logging
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


_log: Final = logging.getLogger("durable_streams.runs")


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
        self._last = (0, "-1")
        self._open: set[int] = set()
        self._begun: list[int] = []  # and not deleted
        self._owner = ""
        self._is_over = False
        self._turn = asyncio.Lock()
        self.id = ""
        self.requests = 0
        self.calls: Final[dict[str, Call]] = {}  # those under way that runs answer

    @property
    def is_over(self) -> bool:
        """Whether it was ended."""
        return self._is_over

    @property
    def oldest(self) -> int:
        """The part that its events begin in, those that are kept."""
        return max(0, self._part - 1)

    @property
    def current(self) -> int:
        """The part that its next event is in, or one behind it."""
        return self._part

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
            self._last = await self._append(entry)
            return self.behind_all(stream)

    def behind_all(self, stream: str) -> str:
        """The id of an event that could not be stored: behind those of its stream that were."""
        part, offset = self._last
        return EventId(self.name, part, stream, offset).text

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
            await self._leave(self._open)

    async def _make_room(self) -> None:
        if self._is_over:  # nobody would end the part that it began
            raise RuntimeError("the session is over, and keeps nothing more")
        if self._seq >= self._keep:
            await self._begin_part(self._part + 1)

    async def _append(self, entry: bytes) -> tuple[int, str]:
        """The part that an entry is in, and the offset behind it."""
        while True:
            try:
                if not self._path:
                    await self._begin_part(self._part)
                return self._part, await self._append_one(entry)
            except (StreamClosed, StreamNotFound, StreamGone):
                # It expired, or this process was silent for too long: the next part begins.
                self._path, self._part = "", self._part + 1
                await self._begin_part(self._part)

    async def _begin_part(self, part: int) -> None:
        """Begin a part, then end those before it: who follows them goes on in this one.

        If its head cannot be written it is none: the next try begins the one behind it.
        """
        while True:
            try:
                self._path = await self._runs.hold(self.part(part), JSON)
                break
            except StreamExists:  # it was begun, and then the store was out of order
                part += 1
        self._part, self._seq = part, 0
        self._open.add(part)
        try:
            await self._write_head()
        except BaseException:
            self._path = ""
            raise
        self._begun.append(part)
        await self._leave(self._open - {part})
        await self._forget(self._begun[:-2])

    async def _write_head(self) -> None:
        if self._owner:
            await self._append_one(json_of({"owner": self._owner}))
        for stream, call in list(self.calls.items()):  # which may end meanwhile
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

    async def _leave(self, parts: set[int]) -> None:
        """End parts; what fails is no event's failure, and ``Runs`` ends them at last."""
        for part in sorted(parts):
            self._open.discard(part)
            try:
                with suppress(StreamNotFound, StreamGone):
                    await self._runs.release(self.part(part))
            except Exception:  # noqa: BLE001 - whatever it is
                _log.exception("mcp: %s could not be ended yet", self.part(part))

    async def _forget(self, parts: list[int]) -> None:
        """Delete parts; those that cannot be are there until the next try, or expire."""
        for part in parts:
            try:
                await self._runs.delete(self.part(part))
                self._begun.remove(part)
            except Exception:  # noqa: BLE001 - whatever it is
                _log.exception("mcp: %s could not be deleted yet", self.part(part))
