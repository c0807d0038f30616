"""Flow control: no client costs more than a bounded buffer and bounded patience.

A transport is full above a high-water mark, and whoever writes waits for room.  A client that takes
no bytes for ``stall_timeout_s`` is cut off.  Once a head is out there is no error answer any more:
whatever goes wrong then aborts the connection and raises :class:`ConnectionError`, so that the
client sees a cut-off answer, never a wrong one.
"""

from __future__ import annotations

import asyncio
from contextlib import contextmanager
from typing import TYPE_CHECKING

from durable_streams.http import patience
from durable_streams.http.patience import HIGH_WATER_BYTES, LOW_WATER_BYTES

if TYPE_CHECKING:
    from collections.abc import Iterator

    from aiohttp import web


def bound_buffers(transport: asyncio.Transport) -> None:
    """Set the marks between which a transport is full and has room again."""
    transport.set_write_buffer_limits(high=HIGH_WATER_BYTES, low=LOW_WATER_BYTES)


class Connection:
    """The transport of one request, with bounded buffers and bounded patience."""

    def __init__(self, request: web.BaseRequest, stall_timeout_s: float) -> None:
        self.request = request
        self.stall_timeout_s = stall_timeout_s
        self._protocol = request.protocol
        self._writer = request.writer

    @property
    def transport(self) -> asyncio.Transport:
        """The transport; :class:`ConnectionResetError` if the client has gone."""
        transport = self._protocol.transport
        if transport is None or transport.is_closing():
            raise ConnectionResetError("the client has gone")
        return transport

    @property
    def paused(self) -> bool:
        """Whether the transport is full."""
        return self._protocol.writing_paused

    def check(self) -> None:
        """Raise :class:`ConnectionResetError` if the client has gone."""
        _ = self.transport

    def write(self, data: bytes) -> None:
        """Hand bytes to the transport, which takes them all; :meth:`drain` bounds them."""
        self.transport.write(data)
        self._writer.output_size += len(data)

    def count(self, size_bytes: int) -> None:
        """Count bytes that were sent past the transport."""
        self._writer.output_size += size_bytes

    async def drain(self) -> None:
        """Wait for room in the transport's buffer; it is empty if the marks are zero."""
        if not self.paused:
            return
        try:
            async with asyncio.timeout(self.stall_timeout_s):
                await self._writer.drain()
        except TimeoutError:
            raise self.stalled() from None

    def stalled(self) -> ConnectionResetError:
        """Cut off a client that takes nothing, and return the error that says so."""
        request = self.request
        error = patience.stalled(self.stall_timeout_s, request.raw_path, request.remote)
        self.abort()
        return error

    def abort(self) -> None:
        """End the connection now; the client sees that something is missing."""
        transport = self._protocol.transport
        if transport is not None:
            transport.abort()

    @contextmanager
    def cut_off_on_failure(self) -> Iterator[None]:
        """Abort on any failure; what is not the client's is logged and turned into its going."""
        try:
            yield
        except (ConnectionError, asyncio.CancelledError):
            self.abort()
            raise
        except Exception as error:
            why = patience.cut_off(error, self.request.raw_path)
            self.abort()
            raise why from error
