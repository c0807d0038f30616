"""Where streams are: URLs made of a server's address and the paths of streams.

Parameters of a query are in the order of their names, as the protocol wants for the sake of caches
(§10).  What the address has behind ``?`` is in every URL: the signature of a signed URL.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Self
from urllib.parse import quote, quote_plus, urlsplit

from durable_streams.model.paths import (
    RESERVED_SEGMENT,
    parse_stream_path,
    path_text,
    quote_stream_path,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    from durable_streams.model.paths import StreamPath

_SAFE_IN_A_PATH: Final = "%/!$&'()*+,;=:@-._~"
_DEFAULT_PREFIX: Final = "/v1/stream"
_NONE: Final[Mapping[str, str | None]] = {}


@dataclass(frozen=True, slots=True)
class Address:
    """The URL that streams are below, in parts: ``origin``, raw ``prefix``, and ``given`` query."""

    origin: str
    prefix: str
    given: tuple[tuple[str, str], ...] = ()

    @classmethod
    def parse(cls, url: str) -> Self:
        """Read a URL such as ``http://127.0.0.1:4437/v1/stream``; else a ``ValueError``."""
        parts = urlsplit(url)
        if parts.scheme not in {"http", "https"} or not parts.hostname:
            raise ValueError(
                f"a server's URL begins with http:// or https:// and a host, not {url[:64]!r}: "
                f"use http://127.0.0.1:4437{_DEFAULT_PREFIX}"
            )
        if parts.username is not None:
            raise ValueError("a URL holds no user and no password: use token= for credentials")
        if parts.fragment:
            raise ValueError(f"the URL of a server has no fragment: {url[:64]!r}")
        _ = parts.port  # a ValueError if it is no number
        given = tuple(_pair(pair) for pair in parts.query.split("&") if pair)
        prefix = quote(parts.path, safe=_SAFE_IN_A_PATH).rstrip("/")
        return cls(f"{parts.scheme}://{parts.netloc}", prefix, given)

    def stream(self, path: StreamPath, **parameters: str | None) -> str:
        """The URL of a stream; parameters that are None are left out."""
        return self._url(self.stream_path(path), parameters)

    def stream_path(self, path: StreamPath) -> str:
        """The path of that URL, which is what ``Stream-Forked-From`` has."""
        return f"{self.prefix}/{quote_stream_path(path)}"

    def control(
        self, what: str, path: StreamPath, parameters: Mapping[str, str | None] = _NONE
    ) -> str:
        """The URL of what the server tells below ``__ds``, of one stream or of all."""
        below = f"/{quote_stream_path(path)}" if path else ""
        return self._url(f"{self.prefix}/{RESERVED_SEGMENT}/{what}{below}", parameters)

    def _url(self, path: str, parameters: Mapping[str, str | None]) -> str:
        said = [(name, quote_plus(text)) for name, text in parameters.items() if text is not None]
        query = "&".join(f"{name}={text}" for name, text in sorted([*self.given, *said]))
        return f"{self.origin}{path}{'?' if query else ''}{query}"


def split_url(url: str, prefix: str = _DEFAULT_PREFIX) -> tuple[str, str]:
    """Split the URL of a stream into the address of its server and the path of the stream, in text.

    ``prefix`` is that of the server.  A query stays with the address, as in the URL that was signed
    for one stream.  ``ValueError`` if there is no such prefix in it, ``InvalidRequest`` if what
    follows is no path.
    """
    target, mark, query = url.partition("?")
    server, found, raw = target.partition(f"{prefix.rstrip('/')}/")
    if not found or not raw:
        raise ValueError(f"there is no {prefix.rstrip('/')}/ and a path behind it in {url[:64]!r}")
    return f"{server}{prefix.rstrip('/')}{mark}{query}", path_text(parse_stream_path(raw))


def _pair(text: str) -> tuple[str, str]:
    name, _, value = text.partition("=")
    return name, value
