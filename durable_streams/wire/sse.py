r"""Server-sent events: data and control events as bytes (protocol §5.8).

Each batch of a stream's bytes is one ``data`` event directly followed by one ``control`` event
that says where the reader is then.  A batch is whole appends, as clients take an event for a
message.  Text is sent as lines, a JSON batch as an array with a line for each message, everything
else as base64.  Both events have that offset as their ``id``, which browsers send back as
``Last-Event-ID``.

A client joins the lines of an event with LF and strips one space from the beginning of each, so
CRLF, CR and LF all arrive as LF.  It then concatenates the events.  Two things must not be cut
by the border between two events, and are held back until what follows arrives or the stream is
closed: a character of UTF-8, and CRLF (else its halves would arrive as two line breaks).  The
offset in the control event stays before the held bytes, so a reader that reconnects gets them
whole; there are never more than ``MAX_HELD_BYTES``.

A large batch is encoded piece by piece; a piece may end anywhere.
"""

from __future__ import annotations

import codecs
from binascii import b2a_base64
from enum import Enum
from typing import Final, NamedTuple, assert_never

from durable_streams.model.offsets import ZERO, Offset
from durable_streams.rules.json_borders import Borders
from durable_streams.rules.media_type import is_json, is_text

KEEP_ALIVE: Final = b": keep-alive\n\n"
"""A comment: it keeps proxies from closing a quiet connection, and clients ignore it."""

MAX_HELD_BYTES: Final = 3

BASE64_LINE_BYTES: Final = 24 * 1024
"""Of a line, before encoding: a multiple of 3, and short enough for readers of lines that take
64 KiB at most (Go's scanner does)."""

_EVENT: Final = b"event: data\ndata:"
_JSON_EVENT: Final = _EVENT + b"["
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


class Held(NamedTuple):
    """Bytes that wait for those behind them, and the offset before each of them."""

    data: bytes = b""
    offsets: tuple[Offset, ...] = ()


NOTHING_HELD: Final = Held()


class Encoded(NamedTuple):
    """Events ready to be sent, and what the reader's next batch has to be encoded with.

    ``next_offset``: where the reader is, before what is ``held``.
    """

    wire: bytes
    held: Held
    next_offset: Offset


class Batch:
    """The next batch of a reader: its data event, made piece by piece, and its control event.

    :meth:`part` for each piece of the wire bytes, then :meth:`end`; what comes out is sent in this
    order.  There is no data event if there is nothing to send.
    """

    __slots__ = (
        "_begun",
        "_borders",
        "_encoding",
        "_held",
        "_line_begins",
        "_rest",
        "_start",
        "_taken",
    )

    def __init__(self, encoding: Encoding, held: Held = NOTHING_HELD, start: Offset = ZERO) -> None:
        """``held`` by the batch before; ``start``: where that ended, and this one's bytes begin."""
        self._encoding = encoding
        self._held = held
        self._start = start
        self._taken = 0
        self._rest = held.data  # to be encoded with what follows
        self._borders = Borders() if encoding is Encoding.JSON else None
        self._begun = False
        self._line_begins = True

    def part(self, data: bytes) -> bytes:
        """Encode the wire bytes that follow; they lie in the segment that the batch ends in."""
        self._taken += len(data)
        match self._encoding:
            case Encoding.TEXT:
                text, self._rest = hold_back(self._rest + data)
                return self._event(self._text(text))
            case Encoding.JSON:
                return self._event(self._messages(data))
            case Encoding.BASE64:
                return self._event(self._base64(self._rest + data))
            case _:
                assert_never(self._encoding)

    def end(self, end: Offset, *, closed: bool, cursor: int | None, up_to_date: bool) -> Encoded:
        """Encode the rest, and the control event of a reader that is at ``end`` then.

        ``closed``: the stream is closed there, so nothing is held back.
        """
        held = NOTHING_HELD
        match self._encoding:
            case Encoding.TEXT if not closed:
                held, rest = self._hold(end), b""
            case Encoding.TEXT:
                rest = self._text(self._rest)
            case Encoding.JSON:
                rest = b"]" if self._begun else b""
            case Encoding.BASE64:
                rest = b2a_base64(self._rest, newline=False)
            case _:
                assert_never(self._encoding)
        next_offset = held.offsets[0] if held.offsets else end
        wire = self._event(rest)
        if self._begun:
            wire += f"\nid: {next_offset.token}\n\n".encode("ascii")
        wire += control_event(next_offset, cursor, up_to_date, closed)
        return Encoded(wire, held, next_offset)

    def _hold(self, end: Offset) -> Held:
        """What is left over for the next batch, and where each byte of it is."""
        if not self._rest:
            return NOTHING_HELD
        before = len(self._held.data)  # of all bytes, those that came before this batch
        first = before + self._taken - len(self._rest)
        segment, begin = end.segment, end.position - self._taken
        offsets = [
            *self._held.offsets[first:],
            *(
                self._start if at == before else Offset(segment, begin + at - before)
                for at in range(max(first, before), before + self._taken)
            ),
        ]
        return Held(self._rest, tuple(offsets))

    def _event(self, lines: bytes) -> bytes:
        """Some of the event's lines, the first of them with what begins it."""
        if self._begun or not lines:
            return lines
        self._begun = True
        return _JSON_EVENT + lines if self._encoding is Encoding.JSON else _EVENT + lines

    def _text(self, text: bytes) -> bytes:
        if not text:
            return b""
        if b"\r" in text:
            text = text.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
        text = _valid_utf8(text)
        if self._line_begins and text.startswith(b" "):
            text = b" " + text
        self._line_begins = text.endswith(b"\n")
        return _as_data_lines(text)

    def _messages(self, data: bytes) -> bytes:
        """Messages on a line each, without the last comma; line breaks are white space there."""
        assert self._borders is not None
        lead = b",\n" if self._rest and data else b""
        if lead:
            self._rest = b""
        text = self._borders.in_lines(data)
        if self._borders.behind_message and data:
            text, self._rest = text[:-2], b","
        return _as_data_lines(lead + text.replace(b"\r", b"\n"))

    def _base64(self, data: bytes) -> bytes:
        whole = len(data) - len(data) % 3
        self._rest = data[whole:]
        lines = [
            b2a_base64(data[begin : min(begin + BASE64_LINE_BYTES, whole)], newline=False)
            for begin in range(0, whole, BASE64_LINE_BYTES)
        ]
        if self._begun:
            lines[:0] = [b""]
        return b"\ndata:".join(lines)


def encode_batch(
    encoding: Encoding,
    held: Held,
    start: Offset,
    data: bytes,
    end: Offset,
    *,
    closed: bool,
    cursor: int,
    up_to_date: bool,
) -> Encoded:
    """Encode a batch in one go, see :class:`Batch`; ``data`` are its wire bytes, up to ``end``."""
    batch = Batch(encoding, held, start)
    wire = batch.part(data)
    ended = batch.end(end, closed=closed, cursor=cursor, up_to_date=up_to_date)
    return Encoded(wire + ended.wire, ended.held, ended.next_offset)


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
    return f"event: control\ndata:{{{fields}}}\nid: {next_offset.token}\n\n".encode("ascii")


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


def _as_data_lines(text: bytes) -> bytes:
    """Begin every line after the first with its field name, and a space before a space."""
    return text.replace(b"\n", b"\ndata:").replace(b"\ndata: ", b"\ndata:  ")
