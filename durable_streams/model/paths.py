"""Stream paths: from the raw path of a URL to the name of a stream, and back (protocol §3, §6).

The raw path is split at ``/`` first and each segment is percent-decoded once, so that an
encoded slash can never make a segment out of thin air.  The canonical path is the decoded
segments joined by ``/``; every stream has exactly one, whatever its URL escapes needlessly.
Requests and ``Stream-Forked-From`` go through the same function.
"""

from __future__ import annotations

import re
from typing import Final
from urllib.parse import quote, unquote_to_bytes

from durable_streams.model.errors import InvalidRequest

MAX_PATH_BYTES: Final = 1024
"""Of the decoded path; keeps the stored path well below the 4096 bytes of a file path."""

MAX_SEGMENT_BYTES: Final = 255
"""Of a decoded segment: what file systems allow for one name."""

RESERVED_SEGMENT: Final = "__ds"
"""As the first segment it belongs to the control APIs, never to a stream (protocol §6)."""

_SAFE_IN_SEGMENTS: Final = "/!$&'()*+,;=:@"
_BAD_ESCAPE: Final = re.compile(r"%(?![0-9A-Fa-f]{2})")


def parse_stream_path(raw: str) -> str:
    """Return the canonical path named by ``raw``, the undecoded path below the prefix.

    ``raw`` has no leading slash.  :class:`InvalidRequest` for empty, dot, reserved or over-long
    segments, NUL, a slash hidden in an escape, broken escapes, and what is not UTF-8.
    """
    if "?" in raw or "#" in raw:
        raise InvalidRequest(f"a stream path holds no '?' and no '#': {raw[:64]!r}")
    segments = raw.split("/")
    if "%" in raw:
        if _BAD_ESCAPE.search(raw):
            raise InvalidRequest(f"malformed escape in the stream path {raw[:64]!r}")
        segments = [_decode_segment(segment) for segment in segments]
    for segment in segments:
        _check_segment(segment)
    if segments[0] == RESERVED_SEGMENT:
        raise InvalidRequest(f"stream paths below {RESERVED_SEGMENT!r} are reserved")
    path = "/".join(segments)
    if _size_bytes(path) > MAX_PATH_BYTES:
        raise InvalidRequest(f"the stream path is longer than {MAX_PATH_BYTES} bytes")
    return path


def quote_stream_path(path: str) -> str:
    """Return the raw URL path of a canonical one: ``parse_stream_path`` undoes it."""
    return quote(path, safe=_SAFE_IN_SEGMENTS)


def _decode_segment(segment: str) -> str:
    if "%" not in segment:
        return segment
    try:
        return unquote_to_bytes(segment).decode()
    except UnicodeError:
        raise InvalidRequest(f"the path segment {segment[:64]!r} is not UTF-8") from None


def _check_segment(segment: str) -> None:
    if segment in {"", ".", ".."}:
        raise InvalidRequest("a stream path has no empty, '.' or '..' segments")
    if "/" in segment or "\0" in segment:
        raise InvalidRequest(f"a path segment holds no '/' and no NUL: {segment[:64]!r}")
    if _size_bytes(segment) > MAX_SEGMENT_BYTES:
        raise InvalidRequest(f"a path segment is longer than {MAX_SEGMENT_BYTES} bytes")


def _size_bytes(text: str) -> int:
    if text.isascii():
        return len(text)
    try:
        return len(text.encode())
    except UnicodeEncodeError:
        raise InvalidRequest("the stream path is not UTF-8") from None
