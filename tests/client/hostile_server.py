"""A server whose answers are whatever bytes it is given, which may have no end."""

from __future__ import annotations

import socket
import threading
from contextlib import suppress
from typing import TYPE_CHECKING, Final, Self

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from types import TracebackType

_MOST_BYTES: Final = 512 * 1024 * 1024
"""Of one answer: a client that takes so much takes everything."""


class HostileServer:
    """Listens on a port of its own; each request gets what ``answer`` gives for its head.

    The connection is closed behind it.  ``sent_bytes``: how many of the longest answer the client's
    side took, into its buffers at least; ``asked``: the heads of all requests.
    """

    def __init__(self, answer: Callable[[bytes], Iterable[bytes]]) -> None:
        self._answer = answer
        self._listening = socket.create_server(("127.0.0.1", 0))
        self._accepting = threading.Thread(target=self._accept)
        self._connections: list[tuple[socket.socket, threading.Thread]] = []
        self.is_over = threading.Event()
        self.asked: list[bytes] = []
        self.sent_bytes = 0

    @property
    def url(self) -> str:
        """What a client is given."""
        return f"http://127.0.0.1:{self._listening.getsockname()[1]}/v1/stream"

    def __enter__(self) -> Self:
        self._accepting.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.is_over.set()
        with suppress(OSError):
            self._listening.shutdown(socket.SHUT_RDWR)
        self._accepting.join()
        self._listening.close()
        for connection, thread in self._connections:
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
            thread.join()
            connection.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while not self.is_over.is_set():
                connection, _ = self._listening.accept()
                thread = threading.Thread(target=self._serve, args=(connection,))
                self._connections.append((connection, thread))
                thread.start()

    def _serve(self, connection: socket.socket) -> None:
        head = b""
        with suppress(OSError):
            while b"\r\n\r\n" not in head:
                piece = connection.recv(65536)
                if not piece:
                    return
                head += piece
            self.asked.append(head)
            sent = 0
            for data in self._answer(head):
                connection.sendall(data)
                sent += len(data)
                self.sent_bytes = max(self.sent_bytes, sent)
                if self.is_over.is_set() or sent > _MOST_BYTES:
                    break
            connection.shutdown(socket.SHUT_RDWR)
