"""Slices of files, sent past the transport by ``sendfile``.

A slice goes out on a duplicate of the socket's descriptor, at most 1 MiB per call, and only once
the transport's own buffer is empty.  Plain copying replaces that on TLS and where there is no
``sendfile``.
"""

from __future__ import annotations

import asyncio
import errno
import os
from contextlib import suppress
from typing import TYPE_CHECKING, Final, Self

from durable_streams.http.flow_control import bound_buffers
from durable_streams.settings import KIB, MIB

if TYPE_CHECKING:
    from collections.abc import Iterable

    from durable_streams.http.flow_control import Connection
    from durable_streams.http.turns import Turns
    from durable_streams.model.results import FileSlice, ReadableFile

MAX_SENDFILE_BYTES: Final = MIB
"""Of one ``sendfile`` call, which copies on the event loop: about 0.3 ms."""

COPIED_BYTES: Final = 256 * KIB
"""At a time, where there is no ``sendfile``."""

_NO_SENDFILE: Final = frozenset({errno.EINVAL, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP})


async def send_parts(
    connection: Connection, parts: Iterable[bytes | FileSlice], turns: Turns
) -> None:
    """Send bytes and slices in their order; the last may wait in the transport's buffer."""
    with _FilePipe(connection, turns) as pipe:
        for part in parts:
            if isinstance(part, bytes):
                connection.write(part)
                await connection.drain()
            else:
                await pipe.send(part)


class _FilePipe:
    """Sends file slices into one connection, past the transport where that is possible.

    Its duplicate of the socket is made by the first slice, and given back at the end of the
    ``with`` block.
    """

    def __init__(self, connection: Connection, turns: Turns) -> None:
        self._connection = connection
        self._turns = turns
        self._loop = asyncio.get_running_loop()
        self._socket: int | None = None
        self._is_open = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if not self._is_open:
            return
        self._close_socket()
        transport = self._connection.request.transport
        if transport is not None:
            bound_buffers(transport)

    def _open(self) -> None:
        self._is_open = True
        transport = self._connection.transport
        socket = transport.get_extra_info("socket")
        encrypted = transport.get_extra_info("sslcontext") is not None
        if hasattr(os, "sendfile") and socket is not None and not encrypted:
            with suppress(OSError):  # no descriptor is left: then the bytes are copied
                self._socket = os.dup(socket.fileno())
                # Lowest marks: a drain now means that the buffer is empty, and the slice is next.
                transport.set_write_buffer_limits(high=0, low=0)

    def _close_socket(self) -> None:
        if self._socket is not None:
            os.close(self._socket)
            self._socket = None

    async def send(self, part: FileSlice) -> None:
        """Send one slice; :class:`EOFError` if the file is shorter than that."""
        if not self._is_open:
            self._open()
        position, end = part.position, part.position + part.size
        warm_until = position
        file = part.file
        while position < end:
            size = min(end - position, MAX_SENDFILE_BYTES)
            if position >= warm_until:
                await file.warm(size, position)
                warm_until = position + size
            await self._connection.drain()
            await self._turns.take()
            sent = await self._send_some(file, position, min(size, warm_until - position))
            if sent is not None:
                position += sent

    async def _send_some(self, file: ReadableFile, position: int, size: int) -> int | None:
        """Send up to ``size`` bytes and return how many; None: nothing yet, try again."""
        if self._socket is None:
            data = file.read(min(size, COPIED_BYTES), position)
            self._connection.write(data)
            sent = len(data)
        else:
            try:
                self._connection.check()  # the duplicate outlives the connection
                sent = os.sendfile(self._socket, file.fileno(), position, size)
                self._connection.count(sent)
            except BlockingIOError:
                await self._writable(self._socket)
                return None
            except OSError as error:
                if error.errno not in _NO_SENDFILE:
                    raise
                self._close_socket()
                return None
        if not sent:
            raise EOFError(f"a file ends at {position}, before the slice to be sent does")
        return sent

    async def _writable(self, socket: int) -> None:
        ready = self._loop.create_future()
        self._loop.add_writer(socket, _resolve, ready)
        try:
            async with asyncio.timeout(self._connection.stall_timeout_s):
                await ready
        except TimeoutError:
            raise self._connection.stalled() from None
        finally:
            self._loop.remove_writer(socket)


def _resolve(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)
