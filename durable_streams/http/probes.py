"""Health checks, and whatever else is asked for that is no stream.

``/healthz``: the event loop turns, and no part of the store has ended by a bug.  ``/readyz``:
writes are taken.  Strangers are told by a word why not; what else there is to say is for those who
may see the metrics.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import msgspec

from durable_streams.model.errors import MethodNotAllowed, StreamNotFound
from durable_streams.model.paths import path_text
from durable_streams.wire import replies
from durable_streams.wire.replies import Reply

if TYPE_CHECKING:
    from collections.abc import Sequence

    from durable_streams.access.door import Door
    from durable_streams.model.errors import StreamError
    from durable_streams.model.paths import StreamPath
    from durable_streams.store import Store

PATHS: Final = frozenset({"/healthz", "/readyz"})
"""Where they are."""

MAX_NAMED: Final = 10
"""Streams out of service that ``/readyz`` names."""

_TEXT: Final = (("Content-Type", "text/plain; charset=utf-8"), ("Cache-Control", "no-store"))


def answer(method: str, path: str, store: Store, door: Door, *, may_know: bool) -> Reply:
    """Answer a request for ``path``, which is not below the prefix of the streams.

    ``may_know``: who asks may see how the server is.  :class:`StreamNotFound` if it is nothing.
    """
    if method == "OPTIONS" and path in {"/", "*"}:  # HAProxy's check, unless told otherwise
        return replies.preflight()
    match path:
        case "/healthz":
            return _probe(method, store.bug, may_know=may_know)
        case "/readyz":
            paths, kinds = store.out_of_service(), door.out_of_date()
            return _probe(method, store.refusal(), paths, kinds, may_know=may_know)
        case _:
            raise StreamNotFound(path)


def _probe(
    method: str,
    refusal: StreamError | None,
    out_of_service: Sequence[StreamPath] = (),
    out_of_date: Sequence[str] = (),
    *,
    may_know: bool,
) -> Reply:
    """Answer a health check: 200, or 503 with the reason why not.

    Streams ``out_of_service`` are counted and named; the others are served all the same.
    ``out_of_date``: the credentials of which what was last good counts.
    """
    if method not in {"GET", "HEAD"}:
        reply = replies.errors(MethodNotAllowed("health checks are read by GET or HEAD"))
        others = tuple(header for header in reply.headers if header[0] != "Allow")
        return msgspec.structs.replace(reply, headers=(*others, ("Allow", "GET, HEAD")))
    if refusal is not None:
        why = refusal if may_know else replies.reason(refusal)
        return Reply(503, _TEXT, f"not ready: {why}\n".encode())
    text = "ok\n"
    if not may_know:
        text += "streams_out_of_service\n" if out_of_service else ""
        text += "credentials_out_of_date\n" if out_of_date else ""
        return Reply(200, _TEXT, text.encode())
    if out_of_service:
        named = ", ".join([repr(path_text(path)) for path in out_of_service[:MAX_NAMED]])
        text += f"{len(out_of_service)} streams are out of service: {named}\n"
    text += "".join(
        f"what is known of credentials of the kind {kind} is out of date: see the log\n"
        for kind in out_of_date
    )
    return Reply(200, _TEXT, text.encode("utf-8", "backslashreplace"))
