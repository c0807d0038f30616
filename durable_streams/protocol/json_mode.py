"""JSON mode: splitting a body into messages, byte for byte (protocol §9.1).

A message is never parsed into objects and printed again: big numbers, duplicate keys, key
order, escapes and inner white space stay as the writer sent them.  The JSON grammar is
RFC 8259; the parser is msgspec's, which checks it completely except for two points that are
dealt with here: it lets invalid UTF-8 through, and it refuses escapes of lone surrogates.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

import msgspec

from durable_streams.errors import InvalidJson

if TYPE_CHECKING:
    from collections.abc import Iterable

_WHITE_SPACE: Final = b" \t\r\n"
_SEPARATORS: Final = re.compile(rb"[ \t\r\n,]*")
_SURROGATE_ESCAPE: Final = re.compile(rb"\\u[dD][89a-fA-F]")
_HARMLESS_ESCAPE: Final = rb"\\uA0"
"""Same length as what it replaces, so positions keep their meaning."""

_array_of_raw: Final = msgspec.json.Decoder(list[msgspec.Raw])
_any_raw: Final = msgspec.json.Decoder(msgspec.Raw)


def split_messages(body: bytes, *, allow_empty: bool = True) -> list[bytes]:
    """Return the messages of a body: the elements of a top-level array, else the one value.

    White space around a message goes, every other byte stays.  :class:`InvalidJson` if the body
    is no JSON text in UTF-8 (a byte order mark included), nests too deeply to be checked, or is
    the empty array although ``allow_empty`` is False (an append of nothing, §9.1.3).
    """
    if not body.isascii():
        _check_utf8(body)
    messages = _split(body)
    if not messages and not allow_empty:
        raise InvalidJson("an empty JSON array appends nothing")
    return messages


def encode_messages(messages: Iterable[bytes]) -> bytes:
    """Return the wire form of messages: each one followed by a comma."""
    return b"".join([message + b"," for message in messages])


def _check_utf8(body: bytes) -> None:
    try:
        body.decode()
    except UnicodeDecodeError as error:
        raise InvalidJson(f"the body is not UTF-8 (byte {error.start})") from None


def _split(body: bytes) -> list[bytes]:
    is_array = body.lstrip(_WHITE_SPACE)[:1] == b"["
    try:
        if not is_array:
            return [bytes(_any_raw.decode(body))]
        return [bytes(element) for element in _array_of_raw.decode(body)]
    except RecursionError:
        raise InvalidJson("the JSON is nested too deeply") from None
    except msgspec.DecodeError as error:
        masked = _SURROGATE_ESCAPE.sub(_HARMLESS_ESCAPE, body)
        if masked == body:
            raise InvalidJson(f"the body is not valid JSON: {error}") from None
    # The same splitting, on a copy whose surrogate escapes were overwritten: that neither makes
    # nor mends any other error, even where the backslash is itself escaped.
    lengths = map(len, _split(masked))
    return _slices(body, lengths) if is_array else [body.strip(_WHITE_SPACE)]


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
