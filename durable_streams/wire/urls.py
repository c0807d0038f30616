"""URLs: what a request asks for, and where the client finds a stream (RFC 9110 §7.1, §10.2.2).

A ``Location`` is absolute, as the client sees the server.  Behind a proxy the client's scheme and
host are in ``X-Forwarded-Proto`` and ``X-Forwarded-Host``, or in ``Forwarded`` (RFC 7239).  Else a
target that is a whole URL names them, and then ``Host`` counts for nothing (RFC 9112 §3.2.2).
Forwarding headers count from proxies that are trusted only (``peers`` in ``http``).  Whoever sends
them, what they say is used only if it is nothing but a scheme or a host.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import TYPE_CHECKING, Final, NamedTuple

from durable_streams.model.paths import quote_stream_path
from durable_streams.wire.hosts import is_host

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from durable_streams.model.paths import StreamPath
    from durable_streams.wire.requests import Headers

_SCHEMES: Final = frozenset({"http", "https"})
_FORWARDING: Final = ("X-Forwarded-Proto", "X-Forwarded-Host", "Forwarded")
_FORWARDED_PAIR: Final = re.compile(
    r"""[ \t]*(?:([a-z-]+)=(?:"([^"\\]*)"|([^\s;,"]*))[ \t]*)?(?:(;)|(,)|\Z)""",
    re.ASCII | re.IGNORECASE,
)


def split_target(target: str) -> tuple[str, str]:
    """Split a request target into its raw path and query; an absolute URL loses its origin."""
    target = _split_origin(target)[2]
    path, _, query = target.partition("?")
    return path, query


def authority(target: str) -> str:
    """The host that a target names; "" if it is a path, as nearly all are."""
    return _split_origin(target)[1]


def _split_origin(target: str) -> tuple[str, str, str]:
    """Split a target into scheme and authority, "" if it is no absolute URL, and the rest."""
    if target.startswith("/") or "://" not in target:
        return "", "", target
    scheme, _, rest = target.partition("://")
    authority, slash, path = rest.partition("/")
    authority, mark, query = authority.partition("?")
    return scheme, authority, slash + path if slash and not mark else f"/{mark}{query}{slash}{path}"


class Address(NamedTuple):
    """Where a request came in: the scheme of its connection, and the server's own host and port."""

    scheme: str
    host: str


def stream_url(
    target: str,
    headers: Mapping[str, str],
    own: Address,
    prefix: str,
    path: StreamPath,
    *,
    is_forwarded: bool,
) -> str:
    """Return the URL of the stream at ``path`` below ``prefix``.

    ``target`` and ``headers`` are those of the request; ``own`` counts for what they do not name.
    ``is_forwarded``: it comes from a proxy whose forwarding headers count.
    """
    scheme, named, _ = _split_origin(target)
    said = [headers.get(name, "") if is_forwarded else "" for name in _FORWARDING]
    scheme, host = _said(said[0], said[1], said[2], scheme, named or headers.get("Host", ""))
    return f"{scheme or own.scheme}://{host or own.host}{prefix}/{quote_stream_path(path)}"


@lru_cache(64)  # most clients of a server say the same
def _said(
    proto: str, forwarded_host: str, forwarded: str, scheme: str, host: str
) -> tuple[str, str]:
    """Return the scheme and the host that a request names; "" if none that can be."""
    pairs = _forwarded(forwarded)
    scheme = (_first(proto) or pairs.get("proto", "") or scheme).lower()
    hosts = (_first(forwarded_host), pairs.get("host", ""), host)
    return (
        scheme if scheme in _SCHEMES else "",
        next((host for host in hosts if is_host(host)), ""),
    )


def _first(values: str) -> str:
    """Return the first value of a list header: what the proxy nearest to the client said."""
    return values.partition(",")[0].strip()


def _forwarded(values: str) -> dict[str, str]:
    """Return the pairs of the first element of ``Forwarded``; none if it is malformed."""
    try:
        return next(_elements(values))
    except ValueError:
        return {}


def forwarded_for(headers: Headers) -> str:
    """For whom proxies say that they ask, the last of them last, with commas between.

    ``X-Forwarded-For`` as it is, or else what ``Forwarded`` has for each proxy.  Nobody for a line
    that is malformed: a client may have begun it so that the part of the last proxy is not seen.
    """
    lines = headers.getall("X-Forwarded-For", ())
    if not lines:
        lines = [_hops(line) for line in headers.getall("Forwarded", ())]
    return ",".join(lines)


def _hops(line: str) -> str:
    try:
        return ",".join(pairs.get("for", "") for pairs in _elements(line))
    except ValueError:
        return ""


def _elements(values: str) -> Iterator[dict[str, str]]:
    """The pairs of each element of ``Forwarded``; ``ValueError`` where it is malformed.

    Pair by pair, each where the last one ended: one that does not match ends the search.
    """
    pairs: dict[str, str] = {}
    position = 0
    while True:
        pair = _FORWARDED_PAIR.match(values, position)
        if pair is None:
            raise ValueError("malformed")
        if pair[1]:
            pairs[pair[1].lower()] = pair[2] or pair[3] or ""
        if not pair[4]:
            yield pairs
            if not pair[5]:
                return
            pairs = {}
        position = pair.end()
