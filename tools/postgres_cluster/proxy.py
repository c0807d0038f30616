"""A way between two processes that can be cut, slowed down, or go quiet in either direction.

What waits here has been acknowledged to its sender by the kernel, as with any pooler in between;
what comes after it stays with the kernel, and when there is no more room, the sender stalls.
Two threads for each connection, one for each direction; none of them owns state of another.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
import threading
import time
from enum import Enum
from typing import Final

_PIECE_BYTES: Final = 65_536
_AT_ONCE: Final = struct.pack("ii", 1, 0)
"""For ``SO_LINGER``: closing resets the connection."""


class Way(Enum):
    """A direction."""

    THERE = "from who connects"
    BACK = "to who connects"


class Proxy:
    """Passes connections to a port of this machine on to another, as long as it is let.

    Every method may be called from any thread.
    """

    def __init__(self, to_port: int) -> None:
        self._to_port = to_port
        self._changed = threading.Condition()
        self._held: dict[Way, bool] = dict.fromkeys(Way, False)
        self._waiting = dict.fromkeys(Way, 0)
        self._delay_s = dict.fromkeys(Way, 0.0)
        self._is_cut = False
        self._is_over = False
        self._sockets: set[socket.socket] = set()
        self.connections = 0
        """How many there ever were."""
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=128)
        self.port: int = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, name=f"proxy {self.port}", daemon=True).start()

    def lead_to(self, port: int) -> None:
        """Pass connections that come from now on to this port."""
        self._to_port = port

    def hold(self, *ways: Way) -> None:
        """Keep what comes from now on, of connections there are and new ones: a black hole.

        Without ways, both.  A connection that is closed meanwhile is closed beyond when what was
        sent before has been delivered.
        """
        with self._changed:
            for way in ways or Way:
                self._held[way] = True

    def release(self) -> None:
        """Deliver what is held, and hold nothing any more."""
        with self._changed:
            self._held = dict.fromkeys(Way, False)
            self._changed.notify_all()

    def delay(self, seconds: float, *ways: Way) -> None:
        """Deliver each piece so much later; without ways, in both."""
        with self._changed:
            for way in ways or Way:
                self._delay_s[way] = seconds

    def cut(self) -> None:
        """Reset every connection, and each new one, until :meth:`mend`; what is held is lost."""
        with self._changed:
            self._is_cut = True
            for one in list(self._sockets):
                _reset(one)
            self._changed.notify_all()
            self._changed.wait_for(lambda: not self._sockets)

    def mend(self) -> None:
        """Let connections through again."""
        with self._changed:
            self._is_cut = False

    def wait_until_held(self, way: Way = Way.THERE, within_s: float = 30) -> None:
        """Return when something is held that came this way."""
        with self._changed:
            if not self._changed.wait_for(lambda: self._waiting[way], within_s):
                raise TimeoutError(f"nothing came {way.value} within {within_s} s")

    async def held(self, way: Way = Way.THERE) -> None:
        """Wait, beside an event loop, until something is held that came this way."""
        await asyncio.to_thread(self.wait_until_held, way)

    def close(self) -> None:
        """End all of it."""
        self._is_over = True
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self.cut()

    # -- threads -------------------------------------------------------------------------------

    def _accept(self) -> None:
        while not self._is_over:
            try:
                near, _ = self._listener.accept()
            except OSError:
                return
            self.connections += 1
            try:
                far = socket.create_connection(("127.0.0.1", self._to_port))
            except OSError:
                _reset(near)
                near.close()
                continue
            with self._changed:
                if self._is_cut:
                    for one in (near, far):
                        _reset(one)
                        one.close()
                    continue
                self._sockets |= {near, far}
            pair = _Pair(near, far)
            for way in Way:
                threading.Thread(target=self._pass_on, args=(pair, way), daemon=True).start()

    def _pass_on(self, pair: _Pair, way: Way) -> None:
        source, target = (pair.near, pair.far) if way is Way.THERE else (pair.far, pair.near)
        try:
            while True:
                piece = _received(source)
                if not self._may_pass(way):
                    break
                if not piece:
                    target.shutdown(socket.SHUT_WR)
                    break
                target.sendall(piece)
        except OSError:
            pass
        with self._changed:
            pair.ways_open -= 1
            if not pair.ways_open:
                for one in (pair.near, pair.far):
                    one.close()
                    self._sockets.discard(one)
                self._changed.notify_all()

    def _may_pass(self, way: Way) -> bool:
        with self._changed:
            self._waiting[way] += 1
            self._changed.notify_all()
            self._changed.wait_for(lambda: self._is_cut or not self._held[way])
            self._waiting[way] -= 1
        if self._delay_s[way]:
            time.sleep(self._delay_s[way])
        return not self._is_cut


class _Pair:
    """The two sockets of a connection that is passed on."""

    def __init__(self, near: socket.socket, far: socket.socket) -> None:
        self.near = near
        self.far = far
        self.ways_open = 2
        for one in (near, far):
            one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


def _received(source: socket.socket) -> bytes:
    try:
        return source.recv(_PIECE_BYTES)
    except ConnectionResetError:  # its end as well
        return b""


def _reset(one: socket.socket) -> None:
    """Make it end at once for both sides; whoever waits in it is woken."""
    with contextlib.suppress(OSError):
        one.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _AT_ONCE)
        one.shutdown(socket.SHUT_RDWR)
