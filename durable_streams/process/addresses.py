"""Binding the addresses of a host name.

A name may have addresses that the machine has not, as ``localhost`` has ``::1`` in containers
without IPv6: they are passed over while another one can be bound, and named.  An address that is
there and cannot be bound (somebody else's port, no permission) is an error: clients would meet
another server under the same name.
"""

from __future__ import annotations

import errno
import logging
import os
import socket
from typing import Any, Final

from durable_streams.wire.hosts import is_loopback

_NOT_HERE: Final = frozenset({errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT, errno.EPROTONOSUPPORT})
"""Errors of an address that this machine has not."""

_ADVICE: Final = {
    errno.EADDRINUSE: "stop what listens there, or give another --port",
    errno.EADDRNOTAVAIL: "give an address that this machine has, or 0.0.0.0 or :: for all it has",
    errno.EAFNOSUPPORT: "this system has no such addresses, give one of another kind",
    errno.EACCES: "ports below 1024 take a privilege, give another --port",
    errno.EPERM: "ports below 1024 take a privilege, give another --port",
    errno.EINVAL: "a link-local address takes its interface as well, such as fe80::1%eth0",
}
"""What to do about errors."""

_PORT_TRIES: Final = 8
"""Times that a port the system picked for one address may be taken at another."""

logger = logging.getLogger("durable_streams")


class CannotListen(Exception):
    """No socket was bound; the text says for a user what was tried, what failed, what to do."""


def bind(host: str, port: int) -> list[socket.socket]:
    """Bind a socket for every address of ``host`` that is here; they do not listen yet.

    ``port`` 0: one that the system picks, the same for all of them.  Raises :class:`CannotListen`.
    """
    found = _addresses_of(host, port)
    tries = 1 if port else _PORT_TRIES
    while True:
        tries -= 1
        sockets, failures = _bind_each(found, port)
        wrong = [error.errno for _, error in failures if error.errno not in _NOT_HERE]
        if sockets and not wrong:
            for address, error in failures:
                logger.warning("not listening on %s of %r: %s", address, host, _reason(error))
            return sockets
        for bound in sockets:
            bound.close()
        if not tries or errno.EADDRINUSE not in wrong:
            raise CannotListen(f"cannot listen on {authority(host, port)}: {_why(failures)}")


def _why(failures: list[tuple[str, OSError]]) -> str:
    """What failed at which address, and what to do about the worst of it."""
    told = "; ".join(f"{address}: {_reason(error)}" for address, error in failures)
    errors = [error.errno or 0 for _, error in failures]
    worst = next((number for number in errors if number not in _NOT_HERE), errors[0])
    return f"{told}: {_ADVICE.get(worst, 'give another --host or --port')}"


def _addresses_of(host: str, port: int) -> list[tuple[Any, ...]]:
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except (OSError, UnicodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is no host name"
        raise CannotListen(
            f"cannot listen on {host!r}, port {port}: {reason}: give an address of this machine, "
            "such as 127.0.0.1, or a name that stands for one"
        ) from error
    return list(dict.fromkeys(found))


def _bind_each(
    found: list[tuple[Any, ...]], port: int
) -> tuple[list[socket.socket], list[tuple[str, OSError]]]:
    """Try every address: what was bound, and which were not and why."""
    sockets: list[socket.socket] = []
    failures: list[tuple[str, OSError]] = []
    for family, kind, protocol, _, address in found:
        # A port the system picked for the first address serves for the others as well.
        chosen = port or (sockets[0].getsockname()[1] if sockets else 0)
        try:
            sockets.append(_bound(family, kind, protocol, (address[0], chosen, *address[2:])))
        except OSError as error:
            failures.append((address[0], error))
    return sockets, failures


def _bound(family: int, kind: int, protocol: int, address: tuple[Any, ...]) -> socket.socket:
    bound = socket.socket(family, kind, protocol)
    try:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            bound.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        bound.bind(address)
    except BaseException:
        bound.close()
        raise
    return bound


def _reason(error: OSError) -> str:
    return os.strerror(error.errno) if error.errno else str(error)


def are_on_loopback(sockets: list[socket.socket]) -> bool:
    """Whether nobody but this machine reaches any of them."""
    return all(is_loopback(bound.getsockname()[0].partition("%")[0]) for bound in sockets)


def authority(host: str, port: int) -> str:
    """Host and port as they stand in a URL."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
