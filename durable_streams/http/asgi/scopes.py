"""Which stream a connection scope of ASGI asks for, and who asks.

A stream is named by the path as it was sent, in ``raw_path``: ``a%2Fb`` is another one than
``a/b``, and ``path`` has both as the same.  Servers may leave ``raw_path`` out; then a path with
``%`` is refused, as nobody can tell what it was.

``root_path`` is below what an application is mounted, as clients see it.  What of it is in ``path``
depends: all of it, as ASGI says; nothing in a mount of Starlette before 0.33; and a proxy may have
taken away what the server has been told that it does (``app_root_path``, if the application is
mounted), which uvicorn puts back and hypercorn does not.  ``raw_path`` decides.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, NamedTuple
from urllib.parse import quote, unquote

from durable_streams.model.errors import InvalidRequest, StreamNotFound
from durable_streams.wire.urls import Address

if TYPE_CHECKING:
    from collections.abc import Mapping, MutableMapping

    Scope = MutableMapping[str, Any]

_SAFE_IN_A_PATH: Final = "/!$&'()*+,;=:@"

_UNIX: Final = ""
"""A peername of unix sockets, as ``Peers`` takes it."""


class Place(NamedTuple):
    """What is asked for: ``raw_path``, undecoded and without a slash before, below ``prefix``."""

    prefix: str
    raw_path: str


def place_of(scope: Mapping[str, Any]) -> Place:
    """Where a request leads.

    :class:`StreamNotFound` if that is not below it, and :class:`InvalidRequest` if it cannot be
    told which stream is meant.
    """
    root: str = scope.get("root_path", "")
    outer: str = scope.get("app_root_path", root)
    inside = root.removeprefix(outer).rstrip("/")
    root = root.rstrip("/")
    path: str = scope["path"]
    is_below_root = f"{path}/".startswith(f"{root}/")
    begins = (root,) if is_below_root else (root, inside)
    raw = _raw_path(scope)
    if raw is not None:
        for begin in begins:
            below = _behind(raw, begin)
            if below is not None and path in {f"{begin}/{unquote(below)}", f"/{unquote(below)}"}:
                return Place(root, below)
        if unquote(raw) == path:  # needlessly escaped slashes before it lead here as well
            raise StreamNotFound(path)
    for begin in begins if is_below_root else (inside, ""):
        if path.startswith(f"{begin}/"):
            return Place(root, _quoted(path[len(begin) + 1 :]))
    raise StreamNotFound(path)


def is_below(scope: Mapping[str, Any], prefix: str) -> bool:
    """Whether a request is for what is below ``prefix`` of the scope's application."""
    root: str = scope.get("root_path", "").rstrip("/")
    path: str = scope["path"]
    return path.startswith((f"{root}{prefix}/", f"{prefix}/"))


def mounted_at(scope: Scope, prefix: str) -> Scope:
    """The scope of an application that is mounted there, as frameworks make it."""
    root: str = scope.get("root_path", "")
    outer = scope.get("app_root_path", root)
    return {**scope, "root_path": root.rstrip("/") + prefix, "app_root_path": outer}


def _behind(raw: str, root: str) -> str | None:
    """What is in a raw path behind a decoded one and a slash; None if it does not begin so."""
    *begin, below = raw.split("/", root.count("/") + 1)
    is_so = len(begin) == root.count("/") + 1 and unquote("/".join(begin)) == root
    return below if is_so else None


def _raw_path(scope: Mapping[str, Any]) -> str | None:
    said: bytes | None = scope.get("raw_path")
    return None if said is None else said.partition(b"?")[0].decode("utf-8", "surrogateescape")


def _quoted(path: str) -> str:
    """The raw path of which only the decoded one is known."""
    if "%" in path:
        raise InvalidRequest(
            "it cannot be told which stream is meant: the ASGI server gives no raw_path, or "
            "something has rewritten the path. Use a server that does (uvicorn, hypercorn), or "
            "names without %"
        )
    return quote(path, safe=_SAFE_IN_A_PATH)


def target_of(scope: Mapping[str, Any]) -> str:
    """What is asked for, with its query, for logs."""
    said: bytes | None = scope.get("raw_path")
    path = quote(scope["path"]) if said is None else said.decode("utf-8", "surrogateescape")
    query = query_of(scope)
    return f"{path}?{query}" if query else path


def query_of(scope: Mapping[str, Any]) -> str:
    """The query, undecoded."""
    query: bytes = scope.get("query_string", b"")
    return query.decode("utf-8", "surrogateescape")


def peername_of(scope: Mapping[str, Any]) -> tuple[str, int] | str | None:
    """Who is at the other end, as ``Peers`` takes it."""
    client = scope.get("client")
    if client is not None:
        return str(client[0]), client[1]
    server = scope.get("server")
    return _UNIX if server is not None and server[1] is None else None


def came_in_at(scope: Mapping[str, Any]) -> Address:
    """Where the request came in."""
    server = scope.get("server")
    sockname = None if server is None or server[1] is None else (str(server[0]), server[1])
    return Address.of(sockname, is_secure=scope.get("scheme") in {"https", "wss"})
