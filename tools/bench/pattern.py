"""What the records hold that the load client writes: the same as in ``load/pattern.h``."""

from __future__ import annotations

import functools
import json
from typing import Final

PAGE: Final = 4096
STAMP: Final = 32
JSON_RECORD_OVERHEAD: Final = 8
_LETTERS: Final = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+-"
_OWNER: Final = slice(0, 8)
_NUMBER: Final = slice(9, 25)


def _make_filler() -> bytes:
    state = 1
    letters = bytearray()
    for _ in range(PAGE):
        state = (state * 1664525 + 1013904223) % 2**32
        letters.append(_LETTERS[state >> 26])
    return bytes(letters)


_FILLER: Final = _make_filler()
_OF_STAMP: Final = b"*" * 25


@functools.cache
def _blank(size: int) -> bytes:
    """A record of this size with asterisks, which are in none, for the owner and the number."""
    pages = range(-(-size // PAGE))
    return b"".join(b"%s:%05x|%s" % (_OF_STAMP, page, _FILLER[STAMP:]) for page in pages)[:size]


def record(size: int, owner: int, number: int) -> bytes:
    """The whole record."""
    return _blank(size).replace(_OF_STAMP, b"%08x:%016x" % (owner, number))


def identify(data: bytes) -> tuple[int, int] | None:
    """Whose record this is, and which; None if it is not exactly one that the client writes."""
    try:
        owner, number = int(data[_OWNER], 16), int(data[_NUMBER], 16)
    except ValueError:
        return None
    return (owner, number) if data == record(len(data), owner, number) else None


def split_body(body: bytes, size: int, *, as_json: bool) -> list[bytes]:
    """Cut a stream's content into its records; ValueError if it does not consist of such."""
    if not as_json:
        if len(body) % size:
            raise ValueError(f"{len(body)} bytes are not a number of records of {size} bytes")
        return [body[at : at + size] for at in range(0, len(body), size)]
    records = [value["m"].encode() for value in json.loads(body)]
    if any(len(data) != size - JSON_RECORD_OVERHEAD for data in records):
        raise ValueError("a JSON value of another size than was written")
    return records
