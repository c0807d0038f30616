"""Ports of the loopback interface that stay ours while a server that has one is down."""

from __future__ import annotations

import random
import socket
from typing import Final

_PORTS: Final = range(15_000, 30_000)
"""Below those that the system gives to outgoing connections, who could take one meanwhile."""


class ReservedPort:
    """A port that no other one of these has, in any process, until :meth:`release`."""

    def __init__(self) -> None:
        for number in random.sample(_PORTS, len(_PORTS)):
            self._mark = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
            try:
                self._mark.bind(f"\0durable-streams-port-{number}")  # the kernel has it, no file
                with socket.socket() as probe:
                    probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                    probe.bind(("127.0.0.1", number))
            except OSError:
                self._mark.close()
                continue
            self.number = number
            return
        raise OSError("no port of the loopback interface is free")

    def release(self) -> None:
        """Let others have it."""
        self._mark.close()
