"""Names of hosts, as they stand in URLs and in ``Host``: which of them are this machine's."""

from __future__ import annotations

import ipaddress
import re
from typing import Final, NamedTuple

_HOST: Final = re.compile(
    r"(?P<name>[a-z0-9](?:[a-z0-9._-]{0,252}[a-z0-9.])?|\[[0-9a-f:.]{2,45}\])(?::(?P<port>[0-9]{1,5}))?",
    re.ASCII | re.IGNORECASE,
)
_DEFAULT_PORTS: Final = {"http": "80", "https": "443"}


class HostName(NamedTuple):
    """A host in lower case, in brackets if it is an address of IPv6, and its port, "" if none."""

    name: str
    port: str


class Origin(NamedTuple):
    """Where a page comes from; the port is "" if it is the scheme's own."""

    scheme: str
    host: HostName


def is_host(text: str) -> bool:
    """Whether a text is nothing but a host, and perhaps a port."""
    return _HOST.fullmatch(text) is not None


def parse_host(text: str) -> HostName | None:
    """Read a host and port; None if it is something else.  A dot at the end does not count."""
    found = _HOST.fullmatch(text)
    if found is None:
        return None
    return HostName(found["name"].lower().removesuffix("."), found["port"] or "")


def parse_origin(text: str) -> Origin | None:
    """Read the value of ``Origin`` (RFC 6454 §7); None if it is ``null`` or something else."""
    scheme, mark, rest = text.partition("://")
    host = parse_host(rest) if mark else None
    scheme = scheme.lower()
    if host is None or scheme not in _DEFAULT_PORTS:
        return None
    return Origin(scheme, without_default(scheme, host))


def without_default(scheme: str, host: HostName) -> HostName:
    """A host without its port if that is the scheme's own."""
    return HostName(host.name, "") if host.port == _DEFAULT_PORTS[scheme] else host


def is_loopback(name: str) -> bool:
    """Whether a host, as :class:`HostName` has it, is this machine and nobody else can be it."""
    if name == "localhost" or name.endswith(".localhost"):  # RFC 6761 §6.3
        return True
    try:
        address = ipaddress.ip_address(name.strip("[]"))
    except ValueError:
        return False
    mapped = getattr(address, "ipv4_mapped", None)
    return (mapped or address).is_loopback
