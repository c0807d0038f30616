"""Connections with TLS, from the moment they are accepted to the end of their handshake.

A server of asyncio's own tells nobody of a connection before its handshake has ended, and nobody
at all if it fails, so those who connect and stay silent would count nowhere.  So it is accepted
here, takes its place among all connections at once, and gives it back if no handshake comes of it
within ``HANDSHAKE_TIMEOUT_S``.  Then the connection is like any other: what it is told first is
that it is made, and then what came behind the handshake, in one piece with it or not.

A few are accepted in a turn of the event loop, as a handshake takes it a millisecond or so: those
who come back all at once, after a restart, hold up nobody else for long.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Final

from durable_streams.http.handshakes import told
from durable_streams.http.logs import Throttle
from durable_streams.http.tls_transport import TlsTransport

if TYPE_CHECKING:
    import socket
    import ssl
    from collections.abc import Callable

    from aiohttp import web

    from durable_streams.http.places import Places

HANDSHAKE_TIMEOUT_S: Final = 10.0
"""It takes two round trips; whoever is silent keeps a place from others."""

LEAST_SHUTDOWN_S: Final = 1.0
"""How long a client has at least to take what it was sent, and to say that it knows the end."""

ACCEPTED_PER_TURN: Final = 8

ACCEPT_AGAIN_S: Final = 1.0
"""When to try again where the system has no descriptor or memory for a connection."""

_NONE_TO_ACCEPT: Final = (BlockingIOError, InterruptedError, ConnectionAbortedError)

logger = logging.getLogger("durable_streams")


class TlsListener:
    """Accepts connections on some sockets; :meth:`close` ends that, and handshakes under way.

    ``context`` is asked for each connection, so what it gives may change.  ``make`` makes its
    protocol, once the handshake has ended.  ``refused`` is told of one that is closed at once, and
    ``failed`` of each handshake that has failed.
    """

    def __init__(
        self,
        context: Callable[[], ssl.SSLContext],
        places: Places,
        make: Callable[[], web.RequestHandler],
        *,
        refused: Callable[[], object],
        failed: Callable[[Exception], object],
        shutdown_timeout_s: float,
    ) -> None:
        self._context = context
        self._refused = refused
        self._failed = failed
        self._places = places
        self._make = make
        self._shutdown_timeout_s = max(LEAST_SHUTDOWN_S, shutdown_timeout_s)
        self._loop = asyncio.get_running_loop()
        self._sockets: list[socket.socket] = []
        self._handshakes: set[asyncio.Task[None]] = set()
        self._throttle = Throttle()

    def listen(self, bound: socket.socket, backlog: int) -> None:
        """Accept on a socket; :class:`OSError` if it cannot listen."""
        bound.setblocking(False)
        bound.listen(backlog)
        self._sockets.append(bound)
        self._loop.add_reader(bound, self._accept, bound)

    async def close(self) -> None:
        """Accept no more, and cut off those whose handshake has not ended."""
        for bound in self._sockets:
            self._loop.remove_reader(bound)
        self._sockets.clear()
        await asyncio.sleep(0)  # each has begun then, and gives back what it has
        handshakes = tuple(self._handshakes)
        for handshake in handshakes:
            handshake.cancel()
        if handshakes:
            await asyncio.wait(handshakes)

    def _accept(self, bound: socket.socket) -> None:
        for _ in range(ACCEPTED_PER_TURN):
            try:
                accepted, _ = bound.accept()
            except _NONE_TO_ACCEPT:
                return
            except OSError as error:
                self._pause(bound, error)
                return
            if self._places.are_taken and self._places.are_overrun:
                accepted.close()
                self._refused()
                if self._throttle.passes("connections") is not None:
                    logger.warning("closed connections at once: too many others are being refused")
                continue
            accepted.setblocking(False)
            arrival = _Arrival(self._places, self._make)
            handshake = self._loop.create_task(self._shake_hands(accepted, arrival))
            self._handshakes.add(handshake)
            handshake.add_done_callback(self._handshakes.discard)

    def _pause(self, bound: socket.socket, error: OSError) -> None:
        if self._throttle.passes("accept") is not None:
            logger.error("accepting no connections for a moment: %s", error.strerror)
        self._loop.remove_reader(bound)
        self._loop.call_later(ACCEPT_AGAIN_S, self._go_on, bound)

    def _go_on(self, bound: socket.socket) -> None:
        if bound in self._sockets:
            self._loop.add_reader(bound, self._accept, bound)

    async def _shake_hands(self, accepted: socket.socket, arrival: _Arrival) -> None:
        try:
            await self._loop.connect_accepted_socket(
                lambda: arrival,
                accepted,
                ssl=self._context(),
                ssl_handshake_timeout=HANDSHAKE_TIMEOUT_S,
                ssl_shutdown_timeout=self._shutdown_timeout_s,
            )
        except OSError as error:
            error.__traceback__ = None  # it would hold the buffers of the connection
            self._failed(error)
            self._tell(error)
        except Exception as error:
            self._failed(error)
            logger.exception("bug: a TLS handshake failed")
        finally:
            arrival.end()

    def _tell(self, error: OSError) -> None:
        """Log why a handshake has failed, now and then; many clients do not want one to end."""
        if isinstance(error, ConnectionResetError) or self._throttle.passes("handshake") is None:
            return
        logger.info("a TLS handshake failed: %s", told(error))


class _Arrival(asyncio.Protocol):
    """A connection whose handshake is under way; it makes way for the protocol of a connection.

    Its place is given back by :meth:`end`, or passed on.
    """

    def __init__(self, places: Places, make: Callable[[], web.RequestHandler]) -> None:
        self._places = places
        self._make = make
        self._has_place = not places.are_taken
        self._is_on_its_way = True
        if self._has_place:
            places.arriving += 1
        else:
            places.refused += 1

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The handshake has ended."""
        self.end()
        connection = self._make()
        stream = TlsTransport(transport)
        stream.set_protocol(connection)
        connection.connection_made(stream)

    def end(self) -> None:
        """The connection is no longer on its way."""
        if not self._is_on_its_way:
            return
        self._is_on_its_way = False
        if self._has_place:
            self._places.arriving -= 1
        else:
            self._places.refused -= 1
