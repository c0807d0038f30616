"""What systemd is told of a service of ``Type=notify`` (``sd_notify(3)``).

``NOTIFY_SOCKET`` names a socket of the system; each message is one datagram.  Told are three: that
the server serves, that it reads its settings again, and that it stops.  Without the variable nobody
is told.  A message that cannot be sent is logged and not tried again, and nothing waits for it.
"""

from __future__ import annotations

import logging
import socket
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import MutableMapping

logger = logging.getLogger("durable_streams")


class ServiceManager:
    """Whoever started the server, at ``address``; nobody who wants to know if that is empty."""

    def __init__(self, address: str) -> None:
        self._address = address

    @classmethod
    def take(cls, environment: MutableMapping[str, str]) -> ServiceManager:
        """The one in the environment, which is removed: no child speaks for this process."""
        return cls(environment.pop("NOTIFY_SOCKET", ""))

    def ready(self, status: str = "") -> None:
        """The server serves, with the settings it has by now; ``status``: a line for people."""
        self._tell("READY=1", *([f"STATUS={status}"] if status else []))

    def reloading(self) -> None:
        """The settings are read again; :meth:`ready` follows in any case."""
        self._tell("RELOADING=1", f"MONOTONIC_USEC={time.monotonic_ns() // 1000}")

    def stopping(self) -> None:
        """The server takes no more writes, and ends when all is answered and written."""
        self._tell("STOPPING=1", "STATUS=stopping")

    def _tell(self, *lines: str) -> None:
        if not self._address:
            return
        address = f"\0{self._address[1:]}" if self._address.startswith("@") else self._address
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sending:
                sending.setblocking(False)
                sending.sendto("\n".join(lines).encode(), address)
        except OSError as error:
            logger.warning(
                "cannot tell the service manager %s at NOTIFY_SOCKET=%s: %s",
                lines[0],
                self._address,
                error.strerror or error,
            )
