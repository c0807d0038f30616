"""The URL of a database as users give it, which may have a password that nobody else is to see."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Final
from urllib.parse import parse_qs, unquote, urlsplit, urlunsplit

if TYPE_CHECKING:
    from collections.abc import Sequence

SCHEMES: Final = frozenset({"postgresql", "postgres"})
SECRET: Final = frozenset({"password", "sslpassword"})
_LIKE: Final = "give one like postgresql://user@host1,host2/database"


class NoDatabaseUrl(ValueError):
    """What was given is no URL of a database; the text says why, without any part of it."""


@dataclass(frozen=True, slots=True)
class DatabaseUrl:
    """Where a database is.  ``str()`` is for people: it has no password, and no parameters.

    ``text``: as the driver is given it, with everything.
    """

    text: str = field(repr=False)
    shown: str
    has_password: bool = field(repr=False)

    def __str__(self) -> str:
        return self.shown

    def each_host(self) -> list[DatabaseUrl]:
        """One for each host: drivers give a list of them a single time to be connected."""
        parts = urlsplit(self.text)
        login, at, hosts = parts.netloc.rpartition("@")
        if "," not in hosts:
            return [self]
        return [
            parse(urlunsplit(parts._replace(netloc=f"{login}{at}{host}")))
            for host in hosts.split(",")
        ]


def together(hosts: Sequence[DatabaseUrl]) -> DatabaseUrl:
    """One for some hosts of the same database, as :meth:`DatabaseUrl.each_host` gave them."""
    if len(hosts) == 1:
        return hosts[0]
    parts = [urlsplit(host.text) for host in hosts]
    login, at, _ = parts[0].netloc.rpartition("@")
    names = ",".join([part.netloc.rpartition("@")[2] for part in parts])
    return parse(urlunsplit(parts[0]._replace(netloc=f"{login}{at}{names}")))


def parse(text: str) -> DatabaseUrl:
    """Read a URL; :class:`NoDatabaseUrl`."""
    if "\0" in text:
        raise NoDatabaseUrl(f"the URL of the database holds a NUL: {_LIKE}")
    try:
        parts = urlsplit(text)
        parameters = parse_qs(parts.query, strict_parsing=True) if parts.query else {}
    except ValueError:
        raise NoDatabaseUrl(f"the URL of the database cannot be read: {_LIKE}") from None
    if parts.scheme not in SCHEMES:
        raise NoDatabaseUrl(f"that is no URL of a database: {_LIKE}")
    if parts.fragment or parts.netloc.count("@") > 1 or "@" in parts.path + parts.query:
        raise NoDatabaseUrl(
            "the URL of the database has a sign in a wrong place: in a user or password, write "
            "@ as %40, / as %2F, ? as %3F, # as %23 and % as %25"
        )
    login, at, hosts = parts.netloc.rpartition("@")
    user, _, password = login.partition(":")
    _check_ports(hosts)
    shown = DatabaseUrl(
        text,
        f"{parts.scheme}://{user}{at}{hosts or 'localhost'}{unquote(parts.path)}",
        bool(password) or not SECRET.isdisjoint(parameters),
    )
    if not shown.shown.isprintable():
        return replace(shown, shown=ascii(shown.shown)[1:-1])
    return shown


def _check_ports(hosts: str) -> None:
    for host in hosts.split(","):
        port = host.rpartition("]")[2].rpartition(":")[2] if ":" in host else ""
        if port and not (port.isascii() and port.isdigit() and 0 < int(port) < 65_536):
            raise NoDatabaseUrl(
                "the URL of the database has no number after a host's colon: a password belongs "
                f"before an @; {_LIKE}"
            )
