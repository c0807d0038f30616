"""How deep JSON nests, and its grammar where that is too deep for the parser: without recursion.

The parser calls itself for each array and object, as long as the stack allows, which is longer or
shorter depending on who calls it.  So that a message is accepted or refused whichever way it comes,
its depth is counted here, in the brackets outside of strings.
"""

from __future__ import annotations

import re
from itertools import accumulate
from typing import Final

import msgspec

from durable_streams.settings import KIB

MAX_DEPTH: Final = 512
"""Arrays and objects within one another in a message: far more than data has, and half of what the
parser manages where nothing else is on the stack."""

_SLICE_BYTES: Final = 64 * KIB

_BRACKETS: Final = b"[]{}"
_NO_BRACKETS: Final = bytes(set(range(256)) - set(_BRACKETS))
_NO_MARKS: Final = bytes(set(_NO_BRACKETS) - set(b'"'))
_STEPS: Final = bytes.maketrans(_BRACKETS, b"\x01\xff\x01\xff")
"""One deeper, or (as a signed byte) one less deep."""

_TOKEN: Final = re.compile(rb'[\[\]{}]|[^"\[\]{}]+|"[^"\\]*(?:\\.[^"\\]*)*"?', re.DOTALL)
_OPENING: Final = (b"[", b"{")
_CLOSING: Final = (b"]", b"}")

_any_raw: Final = msgspec.json.Decoder(msgspec.Raw)


def depth(text: bytes, *, least: int = 0) -> int:
    """How many arrays and objects of a JSON text are within one another, where they are most.

    Where that is clearly not more than ``least``, it may say so instead.
    """
    if len(text.translate(None, _NO_BRACKETS)) <= 2 * least:  # each level takes two of them
        return least
    if b"\\" in text:  # what is left of quotes begins and ends strings
        text = text.replace(b"\\\\", b"").replace(b'\\"', b"")
    marks = text.translate(None, _NO_MARKS).replace(b'""', b"")
    within_others = marks.replace(b"[]", b"").replace(b"{}", b"")  # all but one or two levels
    if len(within_others) <= 2 * (least - 2):
        return least
    now = deepest = inside_string = 0
    for begin in range(0, len(marks), _SLICE_BYTES):
        parts = marks[begin : begin + _SLICE_BYTES].split(b'"')
        steps = b"".join(parts[inside_string::2]).translate(_STEPS)
        inside_string = (inside_string + len(parts) - 1) % 2
        depths = list(accumulate(memoryview(steps).cast("b"), initial=now))
        now, deepest = depths[-1], max(deepest, *depths)
    return deepest


def check_flat(text: bytes) -> None:
    """Raise ``msgspec.DecodeError`` unless a text is JSON.

    Each array and object is parsed by itself, what is within it having been replaced by ``null``:
    beside another value that is an error as well.
    """
    open_texts: list[list[bytes]] = [[]]
    position = 0
    while found := _TOKEN.match(text, position):
        token, position = found[0], found.end()
        if token in _OPENING:
            open_texts.append([token])
            continue
        open_texts[-1].append(token)
        if token in _CLOSING and len(open_texts) > 1:
            _any_raw.decode(b"".join(open_texts.pop()))
            open_texts[-1].append(b"null")
    _any_raw.decode(b"".join(open_texts[-1]))  # one that was not closed is no JSON
