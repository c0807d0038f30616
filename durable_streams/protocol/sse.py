r"""Server-sent events: data and control events as bytes (protocol §5.8).

Each batch of a stream's bytes is one ``data`` event directly followed by one ``control`` event
that says where the reader is then.  Text is sent as lines, a JSON batch as an array, everything
else as base64.

A client joins the lines of an event with LF and strips one space from the beginning of each, so
CRLF, CR and LF all arrive as LF.  It then concatenates the events.  Two things must not be cut
by the border between two events, and are held back until what follows arrives or the stream is
closed: a character of UTF-8, and CRLF (else its halves would arrive as two line breaks).  The
offset in the control event stays before the held bytes, so a reader that reconnects gets them
whole; there are never more than ``MAX_HELD_BYTES``.
"""

from __future__ import annotations

import codecs
from binascii import b2a_base64
from enum import Enum
from typing import Final, NamedTuple, assert_never

from durable_streams.protocol.media_type import is_json, is_text
from durable_streams.protocol.offsets import Offset

KEEP_ALIVE: Final = b": keep-alive\n\n"
"""A comment: it keeps proxies from closing a quiet connection, and clients ignore it."""

MAX_HELD_BYTES: Final = 3

JSON_EVENT_BEGIN: Final = b"event: data\ndata:["
JSON_EVENT_END: Final = b"]\n\n"
"""Around the parts of a data event that is too large to be encoded in one go."""

_FIRST_SURROGATE_BYTES: Final = b"\xed\xa0"


class Encoding(Enum):
    """How the bytes of a stream travel in data events."""

    TEXT = "text"
    JSON = "json"
    BASE64 = "base64"

    @classmethod
    def of(cls, content_type: str) -> Encoding:
        """Return the encoding for a stream of a (canonical) content type."""
        if is_json(content_type):
            return cls.JSON
        return cls.TEXT if is_text(content_type) else cls.BASE64


class Encoded(NamedTuple):
    """Events ready to be sent, and what the reader's next batch has to be encoded with.

    ``held``: the bytes held back; ``next_offset``: where the reader is, before them.
    """

    wire: bytes
    held: bytes
    next_offset: Offset


def encode_publication(
    encoding: Encoding,
    held: bytes,
    at: Offset,
    data: bytes,
    end: Offset,
    *,
    closed: bool,
    cursor: int,
    up_to_date: bool,
) -> Encoded:
    """Encode the next batch of a reader: a data event, if there is anything to send, and control.

    ``held`` and ``at`` are the ``held`` and ``next_offset`` of the batch before (at first: nothing
    and where the reader begins).  ``data`` are the wire bytes that follow, up to ``end``; all of
    them lie in ``end``'s segment.  ``closed``: the stream is closed at ``end``, so nothing is
    held back.  Without ``data`` only a control event comes out, unless a close flushes ``held``.
    """
    next_offset = end
    if encoding is Encoding.TEXT:
        text = held + data
        before = len(held)
        data, held = (text, b"") if closed else hold_back(text)
        if held and len(data) <= before:  # nothing was sent, or just what was held before
            next_offset = Offset(at.segment, at.position + len(data))
        elif held:
            next_offset = Offset(end.segment, end.position - len(held))
    control = control_event(next_offset, cursor, up_to_date, closed)
    return Encoded(data_event(encoding, data) + control, held, next_offset)


def data_event(encoding: Encoding, data: bytes) -> bytes:
    """Encode wire bytes as one data event; nothing if there are none."""
    if not data:
        return b""
    match encoding:
        case Encoding.TEXT:
            return _lines_event(_valid_utf8(data))
        case Encoding.JSON:
            return _lines_event(b"[" + data[:-1] + b"]")
        case Encoding.BASE64:
            return b"event: data\ndata:" + b2a_base64(data, newline=False) + b"\n\n"
        case _:
            assert_never(encoding)


def json_event_part(values: bytes) -> bytes:
    """Encode some of the wire bytes between ``JSON_EVENT_BEGIN`` and ``JSON_EVENT_END``.

    Line breaks are white space between tokens there, so parts may be cut anywhere.
    """
    return _as_data_lines(values.replace(b"\r", b"\n"))


def control_event(next_offset: Offset, cursor: int | None, up_to_date: bool, closed: bool) -> bytes:
    """Encode a control event; a closed one says so, and that it is up to date, and no cursor."""
    fields = f'"streamNextOffset":"{next_offset.token}"'
    if closed:
        fields += ',"upToDate":true,"streamClosed":true'
    else:
        if cursor is not None:
            fields += f',"streamCursor":"{cursor}"'
        if up_to_date:
            fields += ',"upToDate":true'
    return f"event: control\ndata:{{{fields}}}\n\n".encode("ascii")


def hold_back(data: bytes) -> tuple[bytes, bytes]:
    """Split text into what can be sent and what has to wait for the bytes that follow.

    The latter is a character of UTF-8 that has begun and can still become a valid one, or a CR
    that an LF may follow.
    """
    if data.endswith(b"\r"):
        return data[:-1], b"\r"
    last = data[-MAX_HELD_BYTES:]
    if last.isascii():
        return data, b""
    _, complete = codecs.utf_8_decode(last, "replace", False)
    held = last[complete:]
    # Python's decoder waits for the third byte of a surrogate, which UTF-8 has no place for.
    if not held or (len(held) > 1 and held >= _FIRST_SURROGATE_BYTES and held[0] == 0xED):
        return data, b""
    return data[: -len(held)], held


def _valid_utf8(text: bytes) -> bytes:
    """Return text with U+FFFD in place of what is not UTF-8: clients would fail on it."""
    if text.isascii():
        return text
    return text.decode(errors="replace").encode()


def _lines_event(text: bytes) -> bytes:
    if b"\r" in text:
        text = text.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
    if text.startswith(b" "):
        text = b" " + text
    return b"event: data\ndata:" + _as_data_lines(text) + b"\n\n"


def _as_data_lines(text: bytes) -> bytes:
    """Begin every line after the first with its field name, and a space before a space."""
    return text.replace(b"\n", b"\ndata:").replace(b"\ndata: ", b"\ndata:  ")
