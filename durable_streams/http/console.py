"""The console: a page for people, below ``__ds/console/``, and what leads a browser there.

It is made of files that are the same for everybody, so nobody is asked who they are for them: what
the page shows it asks for like any client, with the token of whoever sits before it.  Its programs
and styles are its own files and nothing else: the policy that goes with each names their folder, by
the host that the browser asked for, so that no stream ever is one of them.

Files are read once, at the first request, by a thread.  Where ``mode`` is ``read-only`` the page
offers nothing that changes anything; what somebody may do is decided by their token all the same.
"""

from __future__ import annotations

import asyncio
import hashlib
import re
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple
from urllib.parse import quote

from durable_streams.model.errors import MethodNotAllowed, StreamNotFound
from durable_streams.model.paths import RESERVED_SEGMENT
from durable_streams.program import version
from durable_streams.wire import replies
from durable_streams.wire.replies import Common, Reply

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from durable_streams.http.incoming import Incoming
    from durable_streams.model.paths import StreamPath
    from durable_streams.wire.pages import Headers

FILES: Final = Path(__file__).with_name("console_page")
"""Where its files are; all of them are served."""

MODES: Final = ("read-only", "full")
PLACE: Final[StreamPath] = (RESERVED_SEGMENT, "console")
PATH: Final = "/".join(PLACE)
PAGE: Final = "index.html"

COMMON: Final = Common.of(
    (
        ("X-Content-Type-Options", "nosniff"),
        ("Referrer-Policy", "no-referrer"),
        ("Cross-Origin-Resource-Policy", "same-origin"),
        ("Cross-Origin-Opener-Policy", "same-origin"),
    )
)
"""The headers of every answer of it: no other page gets at it, in a frame or otherwise."""

_TYPES: Final = {
    ".css": "text/css; charset=utf-8",
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".svg": "image/svg+xml",
}
_POLICY: Final = (
    "default-src 'none'; script-src {place}; style-src {place}; img-src {place}; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
    "require-trusted-types-for 'script'; trusted-types 'none'"
)
_HOST: Final = re.compile(r"[A-Za-z0-9-]+(?:\.[A-Za-z0-9-]+)*(?::[0-9]+)?", re.ASCII)
_SAFE: Final = "/%!$&()*+=:@~"
"""Of a path in a policy, which a comma or a semicolon would end; what is escaped stays so."""


class _File(NamedTuple):
    content_type: str
    etag: str
    content: bytes


class Console:
    """Answers what browsers ask for; ``mode`` is one of ``MODES``."""

    def __init__(self, mode: str) -> None:
        assert mode in MODES
        self._mode = mode
        self._files: dict[str, _File] = {}

    @staticmethod
    def knows(raw_path: str) -> bool:
        """Whether a path below the prefix is one of the console's."""
        return raw_path == PATH or raw_path.startswith(f"{PATH}/")

    async def answer(
        self, method: str, raw_path: str, headers: Headers, url_of: Callable[[StreamPath], str]
    ) -> Reply:
        """Answer a request for a path that it :meth:`knows`.

        ``url_of``: the URL of what is at a path, as the browser has it.  :class:`StreamNotFound` or
        :class:`MethodNotAllowed`.
        """
        if method == "OPTIONS":
            return replies.preflight()
        if method not in {"GET", "HEAD"}:
            raise MethodNotAllowed(f"the console is read by GET or HEAD, not {method[:32]!r}")
        if raw_path == PATH:
            return leads_to("console/")
        if not self._files:
            loop = asyncio.get_running_loop()
            self._files = await loop.run_in_executor(None, _read, self._mode)
        name = raw_path[len(PATH) + 1 :] or PAGE
        found = self._files.get(name)
        if found is None:
            raise StreamNotFound(raw_path)
        said = (
            ("Content-Type", found.content_type),
            ("Content-Security-Policy", _policy(url_of(PLACE))),
            ("Cache-Control", "no-cache"),  # it is asked for again, and is of one version so
            ("ETag", found.etag),
        )
        if _has(headers.getall("If-None-Match", ()), found.etag):
            return replies.not_modified(said)
        return Reply(200, said, found.content)


def leads_to(place: str) -> Reply:
    """Send a browser on; ``place`` is relative, so that it holds behind any proxy."""
    return Reply(302, (("Location", place), ("Cache-Control", "no-store")))


def is_visit(request: Incoming) -> bool:
    """Whether somebody opens a page, as no program does that asks for a stream."""
    if request.method not in {"GET", "HEAD"}:
        return False
    modes = request.headers.getall("Sec-Fetch-Mode", ())
    if modes:
        return list(modes) == ["navigate"]
    return any("text/html" in accepted for accepted in request.headers.getall("Accept", ()))


def _policy(url: str) -> str:
    """What a page at ``url`` may load: files below it, by whichever scheme that was opened.

    A policy has no way to say a path of an address of IPv6: then it is whatever is of its origin,
    of which no stream is taken for a program either (``wire/pages``, ``nosniff``).
    """
    host, _, path = url.partition("://")[2].partition("/")
    if _HOST.fullmatch(host) is None:
        return _POLICY.format(place="'self'")
    return _POLICY.format(place=f"{host}/{quote(path, safe=_SAFE)}/")


def _has(said: Sequence[str], etag: str) -> bool:
    return any(etag in [one.strip() for one in value.split(",")] for value in said)


def _read(mode: str) -> dict[str, _File]:
    """All files, by name; blocks."""
    files = {}
    for path in FILES.iterdir():
        content = path.read_bytes()
        if path.name == PAGE:
            content = content.replace(b"{mode}", mode.encode())
            content = content.replace(b"{version}", version().encode())
        digest = hashlib.sha256(content).hexdigest()[:32]
        files[path.name] = _File(_TYPES[path.suffix], f'"{digest}"', content)
    return files
