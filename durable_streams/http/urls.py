"""URLs: what a request asks for, and where the client finds a stream (RFC 9110 §7.1, §10.2.2).

A ``Location`` is absolute, as the client sees the server.  Behind a proxy the client's scheme and
host are in ``X-Forwarded-Proto`` and ``X-Forwarded-Host``, or in ``Forwarded`` (RFC 7239).  Anybody
can send these, so what they say is used only if it is nothing but a scheme or a host; it changes
the ``Location`` of the sender's own answer and nothing else.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import TYPE_CHECKING, Final

from durable_streams.protocol.paths import quote_stream_path

if TYPE_CHECKING:
    from collections.abc import Mapping

    from aiohttp import web

_SCHEMES: Final = frozenset({"http", "https"})
_HOST: Final = re.compile(
    r"(?:[a-z0-9](?:[a-z0-9._-]{0,252}[a-z0-9.])?|\[[0-9a-f:.]{2,45}\])(?::[0-9]{1,5})?",
    re.ASCII | re.IGNORECASE,
)
_FORWARDED_PAIR: Final = re.compile(
    r'\s*([a-z-]+)=(?:"([^"\\]*)"|([^\s;,"]*))\s*(?:[;]|$)', re.ASCII | re.IGNORECASE
)


def split_target(target: str) -> tuple[str, str]:
    """Split a request target into its raw path and query; an absolute URL loses its origin."""
    if not target.startswith("/") and "://" in target:
        _, _, rest = target.partition("://")
        authority, slash, path = rest.partition("/")
        authority, mark, query = authority.partition("?")
        target = slash + path if slash and not mark else f"/{mark}{query}{slash}{path}"
    path, _, query = target.partition("?")
    return path, query


def stream_url(
    headers: Mapping[str, str], connection: web.RequestHandler, prefix: str, path: str
) -> str:
    """Return the URL of the stream at the canonical ``path`` below ``prefix``.

    ``headers`` are those of the request, ``connection`` is the one that it came in on.
    """
    return f"{_origin(headers, connection)}{prefix}/{quote_stream_path(path)}"


def _origin(headers: Mapping[str, str], connection: web.RequestHandler) -> str:
    scheme, host = _said(
        headers.get("X-Forwarded-Proto", ""),
        headers.get("X-Forwarded-Host", ""),
        headers.get("Forwarded", ""),
        headers.get("Host", ""),
    )
    if not scheme:
        scheme = "http" if connection.ssl_context is None else "https"
    return f"{scheme}://{host or _own_host(connection)}"


@lru_cache(64)  # most clients of a server say the same
def _said(proto: str, forwarded_host: str, forwarded: str, host: str) -> tuple[str, str]:
    """Return the scheme and the host that a request's headers name; "" if none that can be."""
    pairs = _forwarded(forwarded)
    scheme = (_first(proto) or pairs.get("proto", "")).lower()
    hosts = (_first(forwarded_host), pairs.get("host", ""), host)
    return (
        scheme if scheme in _SCHEMES else "",
        next((host for host in hosts if _HOST.fullmatch(host)), ""),
    )


def _first(values: str) -> str:
    """Return the first value of a list header: what the proxy nearest to the client said."""
    return values.partition(",")[0].strip()


def _forwarded(values: str) -> dict[str, str]:
    """Return the pairs of the first element of ``Forwarded``."""
    pairs = _FORWARDED_PAIR.finditer(_first(values))
    return {pair[1].lower(): pair[2] or pair[3] or "" for pair in pairs}


def _own_host(connection: web.RequestHandler) -> str:
    """Return the address the request came in on."""
    name = connection.sockname
    if not isinstance(name, tuple):
        return "localhost"
    address, port = name[:2]
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"
