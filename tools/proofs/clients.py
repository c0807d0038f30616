"""Clients that outlive the server: a producer and three kinds of reader.

They go on after the server was killed and restarted the way real clients do: the producer sends
the same request again with the same sequence number, a reader asks again from the last offset it
was given.  They wait for the restart, not for time to pass, and an error that no outage explains
fails the test.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Final, Protocol, TypeVar

import aiohttp

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Sequence

    from tools.server_process import ServerProcess

T = TypeVar("T")

NO_ANSWER: Final = frozenset({502, 504})
"""What a proxy says when the server gave no answer: nobody knows what became of the request."""

AGAIN: Final = NO_ANSWER | {503, 507}
"""What says that it may be asked again; 507: the disk is full, of the server or its database."""


class Persistence(Protocol):
    """How a client gets over what happens to its server."""

    async def get_over(self, attempt: Callable[[], Awaitable[T]]) -> T:
        """Make the attempt again while something spoils it that happens."""


class Outages:
    """The server's deaths and returns, and how a client gets over them."""

    def __init__(self, server: ServerProcess) -> None:
        self.count = 0
        self._server = server
        self._up = asyncio.Event()
        self._up.set()

    @property
    def under_way(self) -> bool:
        """Whether the server is down now."""
        return not self._up.is_set()

    async def strike(self, false_starts_s: Sequence[float] = ()) -> None:
        """SIGKILL the server and start it again.

        ``false_starts_s``: start it and kill it again after so many seconds, for each of them.
        """
        self._up.clear()
        self.count += 1
        await asyncio.to_thread(self._server.kill)
        for after_s in false_starts_s:
            await asyncio.to_thread(self._server.start_and_kill, after_s)
        await asyncio.to_thread(self._server.start)
        self._up.set()

    @asynccontextmanager
    async def stopped(self) -> AsyncIterator[None]:
        """Stop the server as an operator does, SIGTERM, and start it again at the end."""
        self._up.clear()
        self.count += 1
        code = await asyncio.to_thread(self._server.stop)
        assert code == 0, self._server.stderr
        yield
        await asyncio.to_thread(self._server.start)
        self._up.set()

    async def get_over(self, attempt: Callable[[], Awaitable[T]]) -> T:
        """Make the attempt again while an outage spoils it."""
        while True:
            await self._up.wait()
            count_before = self.count
            try:
                return await attempt()
            except (aiohttp.ClientError, ConnectionError):
                if self.count == count_before:
                    raise


class Progress:
    """How many bytes were acknowledged so far, to be waited for."""

    def __init__(self) -> None:
        self.size_bytes = 0
        self._advanced = asyncio.Event()

    def advance(self, size_bytes: int) -> None:
        """Count more acknowledged bytes and wake whoever waits."""
        self.size_bytes += size_bytes
        self._advanced.set()
        self._advanced = asyncio.Event()

    async def past(self, size_bytes: int) -> None:
        """Wait until more than this was acknowledged."""
        while self.size_bytes <= size_bytes:
            await self._advanced.wait()


class Producer:
    """An idempotent producer with one request in flight."""

    def __init__(
        self, session: aiohttp.ClientSession, outages: Outages, url: str, content_type: str
    ) -> None:
        self._session = session
        self._outages = outages
        self._url = url
        self._content_type = content_type
        self._seq = 0

    async def append(self, body: bytes, *, close: bool = False) -> None:
        """Append exactly once, however often the server dies meanwhile."""
        headers = {
            "Content-Type": self._content_type,
            "Producer-Id": "tests",
            "Producer-Epoch": "0",
            "Producer-Seq": str(self._seq),
        }
        if close:
            headers["Stream-Closed"] = "true"

        async def attempt() -> None:
            async with self._session.post(self._url, data=body, headers=headers) as response:
                if response.status == 503:  # the server is stopping
                    response.raise_for_status()
                assert response.status in {200, 204}, await response.text()

        await self._outages.get_over(attempt)
        self._seq += 1


class Received:
    """What a reader got so far, and where it goes on."""

    def __init__(self) -> None:
        self.offset = "-1"
        self.size_bytes = 0
        self.closed = False
        self._hash = hashlib.sha256()

    def add(self, data: bytes, next_offset: str, *, closed: bool) -> None:
        """Take a piece that has arrived whole."""
        self._hash.update(data)
        self.size_bytes += len(data)
        self.offset = next_offset
        self.closed = closed

    @property
    def sha256(self) -> str:
        """The checksum of everything received."""
        return self._hash.hexdigest()


class Reader:
    """Reads one stream from its beginning to its close."""

    def __init__(
        self,
        session: aiohttp.ClientSession,
        outages: Persistence,
        url: str,
        received: Received | None = None,
    ) -> None:
        self._session = session
        self._outages = outages
        self._url = url
        self.received = received or Received()

    async def catch_up(self, progress: Progress) -> None:
        """Read what is there; at the tail, wait until the writer has made progress."""
        while not self.received.closed:
            if await self._get({}):
                await progress.past(self.received.size_bytes - 1)

    async def long_poll(self) -> None:
        """Let the server hold each request until there is something to tell."""
        while not self.received.closed:
            await self._get({"live": "long-poll"})

    async def sse(self) -> None:
        """Follow the event stream, connecting again when it ends."""
        while not self.received.closed:
            await self._outages.get_over(self._follow_events)

    async def _get(self, parameters: dict[str, str]) -> bool:
        """Make one request from the current offset; tell whether it reached the tail."""

        async def attempt() -> bool:
            query = {"offset": self.received.offset, **parameters}
            async with self._session.get(self._url, params=query) as response:
                raise_for_outage(response)
                assert response.status in {200, 204}, await response.text()
                data = await response.read()
                headers = response.headers
                closed = headers.get("Stream-Closed") == "true"
                self.received.add(data, headers["Stream-Next-Offset"], closed=closed)
                return headers.get("Stream-Up-To-Date") == "true"

        return await self._outages.get_over(attempt)

    async def _follow_events(self) -> None:
        query = {"offset": self.received.offset, "live": "sse"}
        async with self._session.get(self._url, params=query) as response:
            raise_for_outage(response)
            assert response.status == 200, await response.text()
            encoded = response.headers.get("Stream-SSE-Data-Encoding") == "base64"
            data = b""
            async for name, text in sse_events(response):
                if name == "data":
                    data += base64.b64decode(text) if encoded else text.encode()
                elif name == "control":
                    control = json.loads(text)
                    closed = bool(control.get("streamClosed"))
                    self.received.add(data, control["streamNextOffset"], closed=closed)
                    data = b""


def raise_for_outage(response: aiohttp.ClientResponse) -> None:
    """A proxy that reaches no server says so by an answer of its own."""
    if response.status in NO_ANSWER | {503}:
        response.raise_for_status()


async def sse_events(response: aiohttp.ClientResponse) -> AsyncIterator[tuple[str, str]]:
    """Split an event stream into pairs of an event's name and its data."""
    pending = b""
    async for received in response.content.iter_any():
        *events, pending = (pending + received).split(b"\n\n")
        for event in events:
            name, lines = "message", []
            for line in event.decode().split("\n"):
                field, _, value = line.partition(":")
                match field:
                    case "event":
                        name = value.removeprefix(" ")
                    case "data":
                        lines.append(value.removeprefix(" "))
                    case _:
                        pass
            if lines:
                yield name, "\n".join(lines)
