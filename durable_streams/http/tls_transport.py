"""The transport of a connection with TLS, which may be closed and cut off as often as others.

asyncio's own forgets at a second ``close`` what it would need for all else, so that nothing could
cut off a client that takes no more.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Final, cast

from durable_streams.settings import KIB

if TYPE_CHECKING:
    from collections.abc import Iterable

MAX_UNREAD_BYTES: Final = 64 * KIB
"""Of what came and is not taken; then no more is read from the socket."""


class TlsTransport(asyncio.Transport):
    """The event loop's own, ``inner``, which is closed once."""

    def __init__(self, inner: asyncio.BaseTransport) -> None:
        super().__init__()
        cast("Any", inner).set_read_buffer_limits(high=MAX_UNREAD_BYTES)
        self._inner = cast("asyncio.Transport", inner)  # uvloop's derive from nothing of asyncio
        self.write = self._inner.write  # type: ignore[method-assign] # what every answer calls
        self.get_extra_info = inner.get_extra_info  # type: ignore[method-assign]

    def close(self) -> None:
        """Send what is left, tell the client that this is the end, and close."""
        if not self._inner.is_closing():
            self._inner.close()

    def abort(self) -> None:
        """Close now."""
        self._inner.abort()

    def is_closing(self) -> bool:
        """Whether it was closed, by whomever."""
        return self._inner.is_closing()

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        """Have another one told from now on."""
        self._inner.set_protocol(protocol)

    def get_protocol(self) -> asyncio.BaseProtocol:
        """Who is told."""
        return self._inner.get_protocol()

    def is_reading(self) -> bool:
        """Whether what comes is given to the protocol."""
        return self._inner.is_reading()

    def pause_reading(self) -> None:
        """Give nothing to the protocol."""
        self._inner.pause_reading()

    def resume_reading(self) -> None:
        """Give to the protocol what comes."""
        self._inner.resume_reading()

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        """Set the marks between which it is full and has room again."""
        self._inner.set_write_buffer_limits(high, low)

    def get_write_buffer_limits(self) -> tuple[int, int]:
        """The marks, the lower one first."""
        return self._inner.get_write_buffer_limits()

    def get_write_buffer_size(self) -> int:
        """How much waits to be sent, without what the socket's own transport has."""
        return self._inner.get_write_buffer_size()

    def writelines(self, list_of_data: Iterable[Any]) -> None:
        """Write all of them."""
        self._inner.writelines(list_of_data)

    def can_write_eof(self) -> bool:
        """TLS ends both sides at once."""
        return False
