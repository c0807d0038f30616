"""Stream paths: a tuple of segments, and its two spellings, in URLs and in text.

A raw URL path is split at ``/`` first and each segment is percent-decoded once.  So an encoded
slash never makes two segments of one: ``runs%2F1`` names another stream than ``runs/1`` (protocol
§3, §6; §1 refuses it, but clients name streams so).  Every stream has exactly one path, whatever
its URL escapes needlessly.  Requests and ``Stream-Forked-From`` go through the same function.

Streams are listed in the order of their paths: segment by segment, each by the bytes of its UTF-8
form.  Comparing the tuples does that, as UTF-8 keeps the order of code points.

The text form is for people and for programs: the library, the command line, errors and logs.  It is
the segments joined by ``/``, as they are, but that a slash inside a segment is ``%2F``; and so that
this can be undone, the ``%`` of a literal ``%2F`` or ``%25`` is ``%25`` there.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final, TypeAlias
from urllib.parse import quote, unquote, unquote_to_bytes

from durable_streams.model.errors import InvalidRequest

if TYPE_CHECKING:
    from collections.abc import Sequence

StreamPath: TypeAlias = tuple[str, ...]
"""The decoded segments of a path: at least one, none of them empty; a segment may hold a slash."""

MAX_PATH_BYTES: Final = 1024
"""Of the decoded path; keeps the stored path well below the 4096 bytes of a file path."""

MAX_SEGMENT_BYTES: Final = 255
"""Of a decoded segment: what file systems allow for one name."""

RESERVED_SEGMENT: Final = "__ds"
"""As the first segment it belongs to the control APIs, never to a stream (protocol §6)."""

_SAFE_IN_A_SEGMENT: Final = "!$&'()*+,;=:@"
_BAD_ESCAPE: Final = re.compile(r"%(?![0-9A-Fa-f]{2})")
_LOOKS_ESCAPED: Final = re.compile(r"%(?=2F|25)", re.IGNORECASE)
_ESCAPED: Final = re.compile(r"%(2F|25)", re.IGNORECASE)


def parse_stream_path(raw: str) -> StreamPath:
    """Return the path named by ``raw``, the undecoded URL path below the prefix.

    ``raw`` has no leading slash.  :class:`InvalidRequest` for empty, dot, reserved or over-long
    segments, NUL, broken escapes, and what is not UTF-8.
    """
    if "?" in raw or "#" in raw:
        raise InvalidRequest(f"a stream path holds no '?' and no '#': {raw[:64]!r}")
    segments = raw.split("/")
    if "%" in raw:
        if _BAD_ESCAPE.search(raw):
            raise InvalidRequest(f"malformed escape in the stream path {raw[:64]!r}")
        segments = [_decode_segment(segment) for segment in segments]
    return _checked(segments)


def is_reserved(raw: str) -> bool:
    """Whether the undecoded URL path below the prefix is one of the control APIs."""
    first = raw.partition("/")[0]
    return first == RESERVED_SEGMENT or unquote(first) == RESERVED_SEGMENT


def quote_stream_path(path: StreamPath) -> str:
    """Return the raw URL path of a stream: ``parse_stream_path`` undoes it."""
    return "/".join([quote(segment, safe=_SAFE_IN_A_SEGMENT) for segment in path])


def parse_path_text(text: str) -> StreamPath:
    """Return the path whose text form is ``text``; refuses what ``parse_stream_path`` refuses."""
    segments = text.split("/")
    if "%" in text:
        segments = [_ESCAPED.sub(_unescaped, segment) for segment in segments]
    return _checked(segments)


def path_text(path: StreamPath) -> str:
    """Return the text form of a path: ``parse_path_text`` undoes it."""
    text = "/".join(path)
    if "%" not in text and text.count("/") < len(path):
        return text  # as nearly all are
    return "/".join([_LOOKS_ESCAPED.sub("%25", part).replace("/", "%2F") for part in path])


def _unescaped(escape: re.Match[str]) -> str:
    return "%" if escape[1] == "25" else "/"


def _checked(segments: Sequence[str]) -> StreamPath:
    for segment in segments:
        _check_segment(segment)
    if segments[0] == RESERVED_SEGMENT:
        raise InvalidRequest(f"stream paths below {RESERVED_SEGMENT!r} are reserved")
    if _size_bytes("/".join(segments)) > MAX_PATH_BYTES:
        raise InvalidRequest(f"the stream path is longer than {MAX_PATH_BYTES} bytes")
    return tuple(segments)


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
    if "\0" in segment:
        raise InvalidRequest(f"a path segment holds no NUL: {segment[:64]!r}")
    if _size_bytes(segment) > MAX_SEGMENT_BYTES:
        raise InvalidRequest(f"a path segment is longer than {MAX_SEGMENT_BYTES} bytes")


def _size_bytes(text: str) -> int:
    if text.isascii():
        return len(text)
    try:
        return len(text.encode())
    except UnicodeEncodeError:
        raise InvalidRequest("the stream path is not UTF-8") from None
