"""Where a server listens: on what was passed to it, else on its unix socket and its addresses."""

from __future__ import annotations

import logging
import os
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

from durable_streams.process import addresses, passed_sockets
from durable_streams.process.unix_socket import UnixSocket
from durable_streams.settings import parse_address

if TYPE_CHECKING:
    import socket
    from collections.abc import Iterator, MutableMapping

    from durable_streams.settings import ProcessSettings

DEFAULT_HOST: Final = "127.0.0.1"

logger = logging.getLogger("durable_streams")


def hosts_of(process: ProcessSettings) -> tuple[str, ...]:
    """The hosts on which a server listens, if no sockets were passed to it."""
    return process.host or (() if process.unix_socket else (DEFAULT_HOST,))


@contextmanager
def bound_sockets(
    process: ProcessSettings, environment: MutableMapping[str, str]
) -> Iterator[list[socket.socket]]:
    """The sockets of a server, bound and still to listen; closed at the end.

    Raises :class:`~durable_streams.process.addresses.CannotListen`.
    """
    sockets = passed_sockets.take(environment, os.getpid())
    if sockets and (process.host or process.unix_socket):
        logger.warning("listening on the sockets that were passed, and on no other address")
    unix = None
    try:
        if not sockets:
            if process.unix_socket:
                unix = UnixSocket.at(process.unix_socket)
                sockets.append(unix.bound)
            hosts = hosts_of(process)
            if hosts:
                sockets += addresses.bind(hosts, process.port)
        yield sockets
    finally:
        if unix is not None:
            unix.remove()
        for bound in sockets:
            bound.close()


@contextmanager
def metrics_sockets(process: ProcessSettings) -> Iterator[list[socket.socket]]:
    """The sockets that only metrics are on, none if none were asked for; as above."""
    if not process.metrics_listen:
        yield []
        return
    host, port = parse_address(process.metrics_listen)
    sockets = addresses.bind((host,), port, "--metrics-listen")
    try:
        yield sockets
    finally:
        for bound in sockets:
            bound.close()
