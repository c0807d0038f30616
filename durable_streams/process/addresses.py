"""Binding the addresses of host names, and what sockets are called.

``::`` stands for all addresses of both families, a socket each: not every system lets one of IPv6
have both, and clients of IPv4 are then known by addresses of IPv4.

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
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from durable_streams.wire.hosts import is_loopback

if TYPE_CHECKING:
    from collections.abc import Iterable

_NOT_HERE: Final = frozenset({errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT, errno.EPROTONOSUPPORT})
"""Errors of an address that this machine has not."""

_ADVICE: Final = {
    errno.EADDRINUSE: "stop what listens there, or give another {port}",
    errno.EADDRNOTAVAIL: "give an address that this machine has, or 0.0.0.0 or :: for all it has",
    errno.EAFNOSUPPORT: "this system has no such addresses, give one of another kind",
    errno.EACCES: "ports below 1024 take a privilege, give another {port}",
    errno.EPERM: "ports below 1024 take a privilege, give another {port}",
    errno.EINVAL: "a link-local address takes its interface as well, such as fe80::1%eth0",
}
"""What to do about errors."""

_ALL_OF_IPV4: Final = "0.0.0.0"  # noqa: S104 - that is what it is asked for
_ALL_OF_IPV6: Final = "::"
_WILDCARDS: Final = frozenset({_ALL_OF_IPV4, _ALL_OF_IPV6})

_PORT_TRIES: Final = 8
"""Times that a port the system picked for one address may be taken at another."""

logger = logging.getLogger("durable_streams")


class CannotListen(Exception):
    """No socket was bound; the text says for a user what was tried, what failed, what to do."""


def bind(hosts: Iterable[str], port: int, flag: str = "--port") -> list[socket.socket]:
    """Bind a socket for every address of ``hosts`` that is here; they do not listen yet.

    ``flag``: what the port was given by.

    Each is bound once, and not at all beside a wildcard, which has it already.  ``port`` 0: one
    that the system picks, the same for all of them.  Raises :class:`CannotListen`.
    """
    found = _wanted(hosts, port)
    tries = 1 if port else _PORT_TRIES
    while True:
        tries -= 1
        sockets, failures = _bind_each(found, port)
        wrong = [error.errno for _, error in failures if error.errno not in _NOT_HERE]
        if sockets and not wrong:
            for wanted, error in failures:
                logger.warning(
                    "not listening on %s of %r: %s", wanted.address, wanted.host, _reason(error)
                )
            return sockets
        for bound in sockets:
            bound.close()
        if not tries or errno.EADDRINUSE not in wrong:
            names = dict.fromkeys(authority(wanted.host, port) for wanted in found)
            raise CannotListen(f"cannot listen on {' and '.join(names)}: {_why(failures, flag)}")


def meant(hosts: Iterable[str], port: int) -> list[str]:
    """The addresses that hosts stand for; nothing is bound.  Raises :class:`CannotListen`."""
    return [one.address for one in _wanted(hosts, port)]


class _Wanted(NamedTuple):
    """An address, with the name that stands for it; ``rest`` is what IPv6 has beside the port."""

    host: str
    family: int
    protocol: int
    address: str
    rest: tuple[Any, ...] = ()


def _why(failures: list[tuple[_Wanted, OSError]], flag: str) -> str:
    """What failed at which address, and what to do about the worst of it."""
    told = "; ".join(f"{wanted.address}: {_reason(error)}" for wanted, error in failures)
    errors = [error.errno or 0 for _, error in failures]
    worst = next((number for number in errors if number not in _NOT_HERE), errors[0])
    return f"{told}: {_ADVICE.get(worst, 'give another address').format(port=flag)}"


def _wanted(hosts: Iterable[str], port: int) -> list[_Wanted]:
    """The addresses of all hosts, without those that a wildcard among them has."""
    found: dict[tuple[Any, ...], _Wanted] = {}
    for host in hosts:
        for family, _, protocol, _, (address, _, *rest) in _addresses_of(host, port):
            wanted = _Wanted(host, family, protocol, address, tuple(rest))
            found.setdefault(wanted[1:], wanted)
            if address == _ALL_OF_IPV6:
                both = _Wanted(host, socket.AF_INET, protocol, _ALL_OF_IPV4)
                found.setdefault(both[1:], both)
    wildcards = {one.family for one in found.values() if one.address in _WILDCARDS}
    return [
        one for one in found.values() if one.address in _WILDCARDS or one.family not in wildcards
    ]


def _addresses_of(host: str, port: int) -> list[tuple[Any, ...]]:
    try:
        return socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except (OSError, UnicodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is no host name"
        raise CannotListen(
            f"cannot listen on {host!r}, port {port}: {reason}: give an address of this machine, "
            "such as 127.0.0.1, or a name that stands for one"
        ) from error


def _bind_each(
    found: list[_Wanted], port: int
) -> tuple[list[socket.socket], list[tuple[_Wanted, OSError]]]:
    """Try every address: what was bound, and which were not and why."""
    sockets: list[socket.socket] = []
    failures: list[tuple[_Wanted, OSError]] = []
    for wanted in found:
        # A port the system picked for the first address serves for the others as well.
        chosen = port or (sockets[0].getsockname()[1] if sockets else 0)
        try:
            sockets.append(_bound(wanted, chosen))
        except OSError as error:
            failures.append((wanted, error))
    return sockets, failures


def _bound(wanted: _Wanted, port: int) -> socket.socket:
    bound = socket.socket(wanted.family, socket.SOCK_STREAM, wanted.protocol)
    try:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if wanted.family == socket.AF_INET6:
            bound.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        bound.bind((wanted.address, port, *wanted.rest))
    except BaseException:
        bound.close()
        raise
    return bound


def _reason(error: OSError) -> str:
    return os.strerror(error.errno) if error.errno else str(error)


def are_on_loopback(sockets: Iterable[socket.socket]) -> bool:
    """Whether nobody but this machine reaches any of them."""
    return all(
        bound.family == socket.AF_UNIX or is_of_loopback(bound.getsockname()[0])
        for bound in sockets
    )


def is_of_loopback(address: str) -> bool:
    """Whether nobody but this machine reaches an address."""
    return is_loopback(address.partition("%")[0])


def authority(host: str, port: int) -> str:
    """Host and port as they stand in a URL."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def name_of(bound: socket.socket) -> str:
    """What a socket is called: host and port, or ``unix:`` and its path."""
    address = bound.getsockname()
    if bound.family != socket.AF_UNIX:
        return authority(*address[:2])
    return f"unix:{_printable(address)}"


def _printable(path: str | bytes) -> str:
    """The path of a unix socket; one without a file begins with ``@``, as ``ss`` has it."""
    text = os.fsdecode(path)
    return ascii(text.replace("\0", "@", 1) if text.startswith("\0") else text)[1:-1]
