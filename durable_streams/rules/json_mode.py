"""JSON mode: from a body to its messages as they are stored, byte for byte (protocol §9.1).

A message is never parsed into objects and printed again: big numbers, duplicate keys, key
order, escapes and inner white space stay as the writer sent them.  The JSON grammar is
RFC 8259; the parser is msgspec's, which checks it completely except for two points that are
dealt with here: it lets invalid UTF-8 through, and it refuses escapes of lone surrogates.

A body of millions of messages is gone through piece by piece, each of which ends behind a message:
what that takes in memory is the body, its wire form and one piece.
"""

from __future__ import annotations

import re
from codecs import utf_8_decode
from contextlib import suppress
from typing import TYPE_CHECKING, Final

import msgspec

from durable_streams.model.errors import InvalidJson
from durable_streams.rules.json_borders import Borders, first_border, positions
from durable_streams.rules.json_depth import MAX_DEPTH, check_flat, depth
from durable_streams.settings import KIB

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

_PIECE_BYTES: Final = 64 * KIB

_WHITE_SPACE: Final = b" \t\r\n"
_SEPARATORS: Final = re.compile(rb"[ \t\r\n,]*")
_SURROGATE_ESCAPE: Final = re.compile(rb"\\u[dD][89a-fA-F]")
_HARMLESS_ESCAPE: Final = rb"\\uA0"
"""Same length as what it replaces, so positions keep their meaning."""

_LIKELY: Final = (b",", b"},", b"],")
"""What the last message in a piece may end with."""

_array_of_raw: Final = msgspec.json.Decoder(list[msgspec.Raw])
_any_raw: Final = msgspec.json.Decoder(msgspec.Raw)


def to_wire(body: bytes, *, allow_empty: bool = True) -> tuple[bytes, int]:
    """Return the messages of a body as they are stored, and how many they are.

    They are the elements of a top-level array, else the one value; each is followed by a comma.
    White space around a message goes, every other byte stays.  :class:`InvalidJson` if the body
    is no JSON text in UTF-8 (a byte order mark included), nests deeper than :data:`MAX_DEPTH`, or
    is the empty array although ``allow_empty`` is False (an append of nothing, §9.1.3).
    """
    if not body.isascii():
        _check_utf8(body)
    if len(body) <= _PIECE_BYTES or body.lstrip(_WHITE_SPACE)[:1] != b"[":
        messages = _split(body)
        data, count = _on_the_wire(messages), len(messages)
    else:
        data, count = _in_pieces(body)
    if not count and not allow_empty:
        raise InvalidJson("an empty JSON array appends nothing")
    return data, count


def _on_the_wire(messages: Sequence[bytes]) -> bytes:
    return b",".join((*messages, b"")) if messages else b""


def _check_utf8(body: bytes) -> None:
    view, position = memoryview(body), 0
    try:
        while position < len(body):
            piece = view[position : position + _PIECE_BYTES]
            _, taken = utf_8_decode(piece, "strict", position + len(piece) == len(body))
            position += taken
    except UnicodeDecodeError as error:
        raise InvalidJson(f"the body is not UTF-8 (byte {position + error.start})") from None


def _in_pieces(body: bytes) -> tuple[bytes, int]:
    """The same of a large array."""
    begin, end = body.index(b"[") + 1, body.rfind(b"]")
    pieces: list[bytes] = []
    count = 0
    try:
        if body[end + 1 :].strip(_WHITE_SPACE):
            raise InvalidJson("something follows the JSON array")
        while True:
            messages, cut = _next_piece(body, begin, end)
            if not messages and (count or cut < end):
                raise InvalidJson("the JSON array has a comma without a value")
            pieces.append(_on_the_wire(messages))
            count += len(messages)
            if cut == end:
                return b"".join(pieces), count
            begin = cut + 1
    except InvalidJson as error:
        raise _fault_of(body) or error from None


def _next_piece(body: bytes, begin: int, end: int) -> tuple[Sequence[bytes], int]:
    """Some whole messages of an array, from where one begins, and where the comma is behind them.

    They end at ``end`` if these are the last ones.
    """
    if end - begin > _PIECE_BYTES:
        for border in _LIKELY:
            cut = body.rfind(border, begin, begin + _PIECE_BYTES) + len(border) - 1
            if cut > begin:
                with suppress(InvalidJson):
                    return _split(b"[%b]" % body[begin:cut]), cut
        # A long message begins in the piece: what is before it, or else that one alone.
        found: list[int] = []
        Borders().scan(body[begin : begin + _PIECE_BYTES], 0, found)
        end = min((begin + found[-1] if found else first_border(body, begin)) - 1, end)
    return _split(b"[%b]" % body[begin:end]), end


def _fault_of(body: bytes) -> InvalidJson | None:
    """What is wrong with a body as a whole, and where; None if the parser does not see it."""
    try:
        _any_raw.decode(_SURROGATE_ESCAPE.sub(_HARMLESS_ESCAPE, body))
    except RecursionError:
        return None
    except msgspec.DecodeError as error:
        return InvalidJson(f"the body is not valid JSON: {error}")
    return None


def _split(body: bytes) -> Sequence[bytes]:
    """The messages of a body, or of a piece of it in brackets."""
    is_array = body.lstrip(_WHITE_SPACE)[:1] == b"["
    messages: Sequence[bytes]
    try:
        messages = _array_of_raw.decode(body) if is_array else [_any_raw.decode(body)]
    except RecursionError:
        return _split_deep(body, is_array=is_array)
    except msgspec.DecodeError as error:
        masked = _SURROGATE_ESCAPE.sub(_HARMLESS_ESCAPE, body)
        if masked == body:
            raise InvalidJson(f"the body is not valid JSON: {error}") from None
        # The same splitting, on a copy whose surrogate escapes were overwritten: that neither makes
        # nor mends any other error, even where the backslash is itself escaped.
        lengths = map(len, _split(masked))
        return _slices(body, lengths) if is_array else [body.strip(_WHITE_SPACE)]
    if len(body) > 2 * MAX_DEPTH:  # each level takes two brackets
        for message in messages:
            if len(message) > 2 * MAX_DEPTH:
                _check_depth(bytes(message))
    return messages


def _check_depth(message: bytes) -> None:
    if depth(message, least=MAX_DEPTH) > MAX_DEPTH:
        raise InvalidJson(f"the JSON nests deeper than {MAX_DEPTH} arrays and objects")


def _split_deep(body: bytes, *, is_array: bool) -> Sequence[bytes]:
    """The same without recursion, of which the parser has none left."""
    if depth(body) > MAX_DEPTH + is_array:
        raise InvalidJson(f"the JSON nests deeper than {MAX_DEPTH} arrays and objects")
    try:
        check_flat(body)
    except msgspec.DecodeError as error:
        raise InvalidJson(f"the body is not valid JSON: {error}") from None
    if not is_array:
        return [body.strip(_WHITE_SPACE)]
    inside = body.strip(_WHITE_SPACE)[1:-1] + b","
    begin, messages = 0, []
    for end in positions([inside]):
        messages.append(inside[begin : end - 1].strip(_WHITE_SPACE))
        begin = end
    return messages


def _slices(array: bytes, lengths: Iterable[int]) -> list[bytes]:
    """Cut the elements of a valid array out of its text, given how long each one is."""
    messages = []
    position = array.index(b"[") + 1
    for length in lengths:
        separators = _SEPARATORS.match(array, position)
        start = position if separators is None else separators.end()
        position = start + length
        messages.append(array[start:position])
    return messages
