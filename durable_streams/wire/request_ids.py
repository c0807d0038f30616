"""What a request is called in logs: as whoever sends it says, so that logs can be put together.

A proxy or a client says it in ``X-Request-Id``, or a tracing client in ``traceparent`` (W3C Trace
Context §3.2), whose trace id it is then.  It may be anybody's, and stands in logs and in an answer:
so it is short, and of characters that mean nothing to either.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable

    from durable_streams.wire.requests import Headers

HEADER: Final = "X-Request-Id"
TRACE: Final = "traceparent"

MAX_ID_CHARACTERS: Final = 128
"""Twice what a UUID, or any proxy's own, has room in."""

_ID: Final = re.compile(rf"[A-Za-z0-9._~:/+=@-]{{1,{MAX_ID_CHARACTERS}}}")
_TRACE: Final = re.compile(
    r"(?!ff)(?P<version>[0-9a-f]{2})-(?!0{32})(?P<trace>[0-9a-f]{32})-(?!0{16})[0-9a-f]{16}"
    r"-[0-9a-f]{2}(?P<more>-.*)?"
)


def request_id(headers: Headers, made: Callable[[], str]) -> str:
    """What a request is called that says so, "" if it does not.

    If what it says will not do it is called by what ``made`` returns.
    """
    said = headers.getall(HEADER, ())
    traces = headers.getall(TRACE, ())
    if not said and not traces:
        return ""
    if len(said) == 1 and _ID.fullmatch(said[0]):
        return said[0]
    trace = _TRACE.fullmatch(traces[0]) if len(traces) == 1 else None
    if trace is None or (trace["version"] == "00" and trace["more"]):
        return made()
    return trace["trace"]
