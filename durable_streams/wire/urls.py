"""URLs: what a request asks for, and where the client finds a stream (RFC 9110 §7.1, §10.2.2).

A ``Location`` is absolute, as the client sees the server.  Behind a proxy the client's scheme and
host are in ``X-Forwarded-Proto`` and ``X-Forwarded-Host``, or in ``Forwarded`` (RFC 7239).  Else a
target that is a whole URL names them, and then ``Host`` counts for nothing (RFC 9112 §3.2.2).  A
proxy that takes the beginning of paths away says what that was in ``X-Forwarded-Prefix``.
Forwarding headers count from proxies that are trusted only (``peers`` in ``http``).  Whoever sends
them, what they say is used only if it is nothing but a scheme, a host or a path.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import TYPE_CHECKING, Final, NamedTuple, Self

from durable_streams.model.paths import quote_stream_path
from durable_streams.wire.hosts import is_host
from durable_streams.wire.url_prefix import checked_prefix

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from durable_streams.model.paths import StreamPath
    from durable_streams.wire.requests import Headers

_SCHEMES: Final = frozenset({"http", "https"})
_FORWARDING: Final = ("X-Forwarded-Proto", "X-Forwarded-Host", "Forwarded")
_MAX_STRIPPED: Final = 1024
"""Characters of what proxies took away; it is part of each ``Location``."""

_STRIPPED: Final = "X-Forwarded-Prefix"
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

    @classmethod
    def of(cls, sockname: object, *, is_secure: bool) -> Self:
        """That of a connection whose socket has that name; a unix socket has no address."""
        scheme = "https" if is_secure else "http"
        if not isinstance(sockname, tuple):
            return cls(scheme, "localhost")
        host, port = sockname[:2]
        return cls(scheme, f"[{host}]:{port}" if ":" in host else f"{host}:{port}")


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
    if is_forwarded:
        prefix = public_prefix(headers, prefix)
    return f"{scheme or own.scheme}://{host or own.host}{prefix}/{quote_stream_path(path)}"


def is_stripped(headers: Mapping[str, str]) -> bool:
    """Whether somebody says that a proxy took the beginning of the path away."""
    return _STRIPPED in headers


def public_prefix(headers: Mapping[str, str], prefix: str) -> str:
    """The path that streams are below for whoever asks a proxy that is trusted.

    Proxies in a row name each what it took away, that of the first one first.
    """
    return f"{_stripped(headers.get(_STRIPPED, ''))}{prefix}"


def _stripped(values: str) -> str:
    """What proxies took away; nothing if anything of it is no path."""
    if len(values) > _MAX_STRIPPED:
        return ""
    paths = [value.strip(" \t") for value in values.split(",")]
    try:
        return "".join(checked_prefix(path) for path in paths if path and path != "/")
    except ValueError:
        return ""


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
