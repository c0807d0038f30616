"""Which web pages may ask: what a browser says of the page that it asks for, and of the host.

Any page that somebody opens can send requests to every server that their machine reaches.  Where
nobody has to say who they are, that would be enough to read, write and delete everything: so pages
of foreign origins are refused there, and get no CORS headers.  (The protocol, section 1, would have
these on every response.)  Programs that are no browsers send none of these headers.

``Host`` is looked at for pages whose own name was made to lead here (DNS rebinding): for the
browser they are of one origin with the server, and only the name tells that they are not.

A stream may hold a program, and whoever may append would have it run in the origin of the server:
browsers are told that answers are no documents of it (``replies``), and do not get them at all for
what runs as a program or a style of another page.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Final, Protocol

from durable_streams.model.errors import ForeignHost, ForeignPage
from durable_streams.wire.hosts import is_loopback, parse_host, parse_origin, without_default
from durable_streams.wire.replies import FOR_ALL, FOR_NO_PAGE, Common

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from durable_streams.wire.hosts import HostName, Origin

_PROGRAMS: Final = frozenset(
    {
        "audioworklet",
        "embed",
        "object",
        "paintworklet",
        "script",
        "serviceworker",
        "sharedworker",
        "style",
        "worker",
        "xslt",
    }
)
"""What runs in the page that asks for it, or changes it (Fetch, "destination")."""

_NO_FOREIGN_PAGE: Final = frozenset({"same-origin", "none"})
"""Values of ``Sec-Fetch-Site``; ``none``: somebody has typed the URL, or clicked a bookmark."""

EVERY_ORIGIN: Final = "*"


class Headers(Protocol):
    """The headers of a request, looked up without regard to case (a ``multidict`` is one)."""

    def getall(self, name: str, default: Sequence[str], /) -> Sequence[str]:
        """Return all values of a header, ``default`` if it is absent."""


class Pages:
    """Who is welcome.

    ``origins``: those named by the configuration, ``*`` for all.  ``any_by_default``: without any
    of them all are welcome, as a token, or somebody else, says who may do what.
    ``of_this_machine``: pages of loopback are welcome.  ``with_cookies``: pages of named origins
    may send cookies, which say who asks; those of others may not, though all be welcome.
    ``hosts``: names by which the server is reached; ``loopback_hosts``: if there are none, those
    of this machine, else no name is checked.  ``ValueError`` if one of them is none.
    """

    def __init__(
        self,
        origins: Iterable[str] = (),
        hosts: Iterable[str] = (),
        *,
        any_by_default: bool,
        of_this_machine: bool = False,
        loopback_hosts: bool = False,
        with_cookies: bool = False,
    ) -> None:
        named = list(origins)
        self._any = EVERY_ORIGIN in named or (any_by_default and not named)
        self._origins = frozenset(_origin(text) for text in named if text != EVERY_ORIGIN)
        self._hosts = frozenset(_host(text) for text in hosts)
        self._of_this_machine = of_this_machine
        self._loopback_hosts = loopback_hosts and not self._hosts
        self._with_cookies = with_cookies

    @property
    def default(self) -> Common:
        """The headers of answers to what is no whole request."""
        return FOR_ALL if self._any else FOR_NO_PAGE

    def admit(self, authority: str, headers: Headers, *, for_all: bool = True) -> Common:
        """The headers of the answer to a request; raises if it is a page's that is not welcome.

        ``authority``: the host that the target names, "" if it is a path.  ``for_all``: what is
        asked for may be for all pages, if any are welcome.  Raises :class:`ForeignPage`
        or :class:`ForeignHost`.
        """
        host = self._checked_host(authority, headers)
        dest = headers.getall("Sec-Fetch-Dest", ())
        if not _PROGRAMS.isdisjoint(value.strip().lower() for value in dest):
            raise ForeignPage("streams are no programs, styles or plug-ins of web pages")
        if self._any and for_all and not (self._with_cookies and headers.getall("Cookie", ())):
            return FOR_ALL
        return self._admit_origin(host, headers)

    def admit_host(self, authority: str, headers: Headers) -> None:
        """Check the name only, as for what is the same for everybody; :class:`ForeignHost`."""
        self._checked_host(authority, headers)

    def admit_probe(self, headers: Headers) -> Common:
        """The same for a health check, whatever name it comes by."""
        return FOR_ALL if self._any else self._admit_origin(None, headers)

    def _admit_origin(self, host: HostName | None, headers: Headers) -> Common:
        origins = headers.getall("Origin", ())
        if origins:
            origin = parse_origin(origins[0].strip()) if len(origins) == 1 else None
            if origin is None or not self._is_welcome(origin, host):
                raise ForeignPage(
                    f"pages of {', '.join(origins)[:128]!r} are not welcome here: the server has "
                    "to be told of their origin (--cors-origin)"
                )
            named = origin in self._origins
            return _for_origin(origins[0].strip(), self._with_cookies and named)
        sites = headers.getall("Sec-Fetch-Site", ())
        if not all(self._is_own(site.strip().lower(), host) for site in sites):
            raise ForeignPage(
                "pages of other sites may not lead here: open the URL by itself, or tell the "
                "server of their origin (--cors-origin)"
            )
        return FOR_NO_PAGE

    def _is_welcome(self, origin: Origin, host: HostName | None) -> bool:
        if origin in self._origins or (self._of_this_machine and is_loopback(origin.host.name)):
            return True
        return host is not None and origin.host == without_default(origin.scheme, host)

    def _is_own(self, site: str, host: HostName | None) -> bool:
        """Whether it is no foreign page that asks without saying its origin."""
        if site in _NO_FOREIGN_PAGE:
            return True
        # All pages of localhost are of one site, whatever their port.
        is_here = host is not None and is_loopback(host.name)
        return site == "same-site" and is_here and self._of_this_machine

    def _checked_host(self, authority: str, headers: Headers) -> HostName | None:
        """The host that a request is for; None if it names none and need not."""
        named = [authority] if authority else headers.getall("Host", ())
        host = parse_host(named[0].strip()) if len(named) == 1 else None
        if not self._hosts and not self._loopback_hosts:
            return host
        if host is None or not self._is_ours(host):
            raise ForeignHost(
                f"this server is not known as {', '.join(named)[:128]!r}: use another name, or "
                "tell the server of it (--allowed-host)"
            )
        return host

    def _is_ours(self, host: HostName) -> bool:
        if self._loopback_hosts:
            return is_loopback(host.name)
        return host in self._hosts or host._replace(port="") in self._hosts


OPEN_TO_ALL: Final = Pages(any_by_default=True)
"""Where pages of every origin are welcome: somebody else says who may do what."""


@lru_cache(256)  # one object for all remembered requests of an origin
def _for_origin(origin: str, with_cookies: bool) -> Common:
    return Common.for_origin(origin, with_cookies=with_cookies)


def _origin(text: str) -> Origin:
    origin = parse_origin(text)
    if origin is None:
        raise ValueError(f"{text!r} is no origin: give one such as https://app.example")
    return origin


def _host(text: str) -> HostName:
    host = parse_host(text)
    if host is None:
        raise ValueError(f"{text!r} is no host: give one such as streams.example")
    return host
