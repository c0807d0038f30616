"""A TCP proxy between a client and a server that cuts, stalls and slows down, in a thread."""

from __future__ import annotations

import asyncio
import threading
from contextlib import suppress
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    from types import TracebackType


class Proxy:
    """Listens on a port of its own; what it does to connections may be changed at any time.

    ``cut_after_bytes``: of an answer, then the connection is reset.  ``swallow``: takes everything
    and gives nothing on.  ``piece_bytes``: as many of an answer at a time.
    """

    def __init__(self, port: int) -> None:
        self._port = port
        self.port = 0
        self.cut_after_bytes: int | None = None
        self.swallow = False
        self.piece_bytes = 65536
        self.connections = 0
        self._changed = threading.Condition()
        self._asked = b""
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever)
        self._pairs: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None

    def __enter__(self) -> Self:
        self._thread.start()
        asyncio.run_coroutine_threadsafe(self._begin(), self._loop).result()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        asyncio.run_coroutine_threadsafe(self._end(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    async def has_seen(self, connections: int) -> None:
        """Return when there were so many connections, in all."""
        await asyncio.to_thread(self._wait_for, connections)

    def wait_for_bytes(self, some: bytes) -> None:
        """Return when a client has sent them."""
        with self._changed:
            self._changed.wait_for(lambda: some in self._asked)

    def wait_for_bytes_often(self, some: bytes, times: int) -> None:
        """Return when clients have sent them so often."""
        with self._changed:
            self._changed.wait_for(lambda: self._asked.count(some) >= times)

    def _wait_for(self, connections: int) -> None:
        with self._changed:
            self._changed.wait_for(lambda: self.connections >= connections)

    def cut_all(self) -> None:
        """Cut every connection that is open now."""
        asyncio.run_coroutine_threadsafe(self._cut_all(), self._loop).result()

    async def _begin(self) -> None:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]

    async def _end(self) -> None:
        assert self._server is not None
        self._server.close()
        await self._cut_all()

    async def _cut_all(self) -> None:
        pairs = list(self._pairs)
        for pair in pairs:
            pair.cancel()
        await asyncio.gather(*pairs, return_exceptions=True)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._pairs.add(task)
        with self._changed:
            self.connections += 1
            self._changed.notify_all()
        with suppress(OSError, asyncio.CancelledError):
            await self._carry(reader, writer)
        writer.transport.abort()
        self._pairs.discard(task)

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        up_reader, up_writer = await asyncio.open_connection("127.0.0.1", self._port)
        try:
            up = asyncio.ensure_future(self._pump(reader, up_writer, None))
            down = asyncio.ensure_future(self._pump(up_reader, writer, self.cut_after_bytes))
            try:
                await asyncio.wait({up, down}, return_when=asyncio.FIRST_COMPLETED)
            finally:
                up.cancel()
                down.cancel()
                await asyncio.gather(up, down, return_exceptions=True)
        finally:
            up_writer.transport.abort()

    async def _pump(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, limit: int | None
    ) -> None:
        while data := await reader.read(self.piece_bytes):
            if limit is None:
                with self._changed:
                    self._asked = (self._asked + data)[-65536:]
                    self._changed.notify_all()
            if self.swallow:
                continue
            if limit is not None:
                data, limit = data[:limit], limit - len(data[:limit])
            writer.write(data)
            await writer.drain()
            if limit == 0:
                return
