"""Who is at the other end of a connection, and whom a proxy there says it asks for.

Anybody can send forwarding headers.  They count from peers on loopback and on unix sockets, where a
proxy of this machine is, and from the networks that the settings name; from nobody else.
"""

from __future__ import annotations

import ipaddress
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final

from durable_streams.wire.hosts import is_loopback, parse_host

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    Address = ipaddress.IPv4Address | ipaddress.IPv6Address

_UNIX: Final = "unix"
"""What the peer of a unix socket is called; it has no address."""

_GONE: Final = "gone"
"""What a peer is called of which nobody knows the address any more: the system forgets it with a
reset, though what was sent before is still read."""

_MAX_HOPS: Final = 16
"""Of the proxies that forwarding headers tell of: more than anybody has."""


class Peers:
    """Which peers are trusted proxies; ``ValueError`` if one of ``trusted`` is no network."""

    def __init__(self, trusted: Iterable[str] = ()) -> None:
        self._networks = tuple(_network(text) for text in trusted)

    def is_trusted(self, peername: Any) -> bool:  # noqa: ANN401 - whatever a transport says
        """Whether forwarding headers of a connection count; ``peername`` is its transport's.

        It is a tuple for addresses, text or bytes for unix sockets, and None once it is not known.
        """
        if not isinstance(peername, tuple):
            return peername is not None
        address = _address(str(peername[0]))
        return address is not None and self._trusts(address)

    def client(self, peername: Any, forwarded_for: str) -> str:  # noqa: ANN401 - as above
        """The address of whoever asks: the last one that no trusted proxy has.

        ``forwarded_for``: whom the proxies name, with commas between (:mod:`wire.urls`).
        """
        address = _address(str(peername[0])) if isinstance(peername, tuple) else None
        name = _text(address) if address is not None else _GONE if peername is None else _UNIX
        if not forwarded_for or not self.is_trusted(peername):
            return name
        hops = forwarded_for.rsplit(",", _MAX_HOPS)
        for hop in reversed(hops[-_MAX_HOPS:]):
            address = _address(hop.strip())
            if address is None:
                break
            name = _text(address)
            if not self._trusts(address):
                break
        return name

    def _trusts(self, address: Address) -> bool:
        return address.is_loopback or any(address in network for network in self._networks)


_FORWARDING: Final = frozenset(
    {
        "cf-connecting-ip",
        "client-ip",
        "fastly-client-ip",
        "forwarded",
        "true-client-ip",
        "via",
        "x-client-ip",
        "x-cluster-client-ip",
        "x-real-ip",
    }
)
"""By which proxies tell that they ask for somebody else; all that begin with ``x-forwarded`` as
well."""


def is_of_this_machine(peername: Any, headers: Mapping[str, str]) -> bool:  # noqa: ANN401 - whatever a transport says
    """Whether a request is of somebody on this machine, and no proxy here says that it is not.

    One that says nothing of whom it asks for still tells by which name it was reached, mostly:
    addresses of loopback are asked for by a name of loopback.
    """
    if any(name.lower() in _FORWARDING or _is_x_forwarded(name) for name in headers):
        return False
    if not isinstance(peername, tuple):
        return peername is not None  # a unix socket; its mode says who may
    address = _address(str(peername[0]))
    host = parse_host(headers.get("Host", ""))
    return (
        address is not None and address.is_loopback and host is not None and is_loopback(host.name)
    )


def _is_x_forwarded(name: str) -> bool:
    return name.lower().startswith("x-forwarded")


def _network(text: str) -> ipaddress.IPv4Network | ipaddress.IPv6Network:
    try:
        return ipaddress.ip_network(text, strict=False)
    except ValueError:
        raise ValueError(
            f"{text!r} is no address or network: give one such as 10.0.0.1 or 10.0.0.0/8"
        ) from None


@lru_cache(1024)  # most clients of a server are few
def _address(text: str) -> Address | None:
    """Read an address, perhaps with a port; None if it is none.

    One of IPv4 that is written as one of IPv6 is one of IPv4.
    """
    if text.startswith("["):
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:
        text = text.partition(":")[0]
    try:
        address = ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        return None
    mapped = getattr(address, "ipv4_mapped", None)
    return mapped or address


@lru_cache(1024)
def _text(address: Address) -> str:
    return str(address)
