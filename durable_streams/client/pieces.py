"""What one answer or event brought, taken apart into messages with an offset each.

A JSON stream has its messages.  Of another one nobody sees over HTTP where an append ends: a
*piece*, as it came, is what there is, and holds one or more of them.

A reader may go on behind every message.  Where positions are the bytes of the wire, as our own
server proves by its entity tags and event ids, each message has an offset of its own.  Other
servers give one offset an answer, and what is inside it is counted from there: ``offset,3`` is
three messages behind ``offset`` (no server's offset has a comma, protocol §8).  Only this client
understands that, and by it goes on exactly behind the third on any server.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from itertools import accumulate
from typing import TYPE_CHECKING, Final

import msgspec

from durable_streams.messages import Message
from durable_streams.model.errors import InvalidJson, InvalidOffset, UnexpectedAnswer
from durable_streams.model.offsets import Offset
from durable_streams.model.tokens import parse_offset
from durable_streams.rules.json_borders import Borders
from durable_streams.rules.json_mode import to_wire

if TYPE_CHECKING:
    from durable_streams.client.steps import Answer

BEGINNING: Final = "-1"
NOW: Final = "now"
_MAX_OFFSET: Final = 256
_FORBIDDEN: Final = re.compile(r"[\s,&=?/#%\x00-\x1f\x7f]")
_OUR_TAG: Final = re.compile(
    r'(?:W/)?"[0-9A-Za-z-]+:([0-9]{16}_[0-9]{16}):([0-9]{16}_[0-9]{16}):[0-9a-f]+(?::c)?"', re.ASCII
)
_array_of_raw: Final = msgspec.json.Decoder(list[msgspec.Raw])


@dataclass(frozen=True, slots=True)
class Place:
    """Where a reader is: ``skip`` messages behind an offset of the server."""

    offset: str
    skip: int = 0

    @classmethod
    def parse(cls, token: str) -> Place:
        """Read an offset that a server or this client gave out; else ``InvalidOffset``."""
        offset, comma, skip = token.partition(",")
        if not offset or len(token) > _MAX_OFFSET or _FORBIDDEN.search(offset):
            raise InvalidOffset(
                f"malformed offset {token[:64]!r}: use a next_offset unchanged, '-1' or 'now'"
            )
        if not comma:
            return cls(offset)
        if not (skip.isascii() and skip.isdecimal()) or offset == NOW:
            raise InvalidOffset(f"malformed offset {token[:64]!r}: what follows a comma is a count")
        return cls(offset, int(skip))

    @property
    def token(self) -> str:
        """What :meth:`parse` undoes."""
        return f"{self.offset},{self.skip}" if self.skip else self.offset


def proved_start(answer: Answer) -> str | None:
    """Where the bytes of a 200 begin, if its entity tag proves that positions count bytes."""
    tag = _OUR_TAG.fullmatch(answer.header("etag"))
    return tag[1] if tag and tag[2] == answer.header("stream-next-offset") else None


def json_messages(body: bytes, place: Place, end: str, start: str | None) -> list[Message]:
    """The messages of a JSON array that was read from ``place``, without those to be skipped.

    ``end``: the offset behind it; ``start``: the one that it begins at, if positions count bytes.
    ``UnexpectedAnswer`` if it is no JSON array.
    """
    found = _elements(body)
    tokens = _positions(found, start, end) if start is not None else None
    if tokens is None:
        counted = [Place(place.offset, number).token for number in range(1, len(found))]
        tokens = [*counted, end]
    return [Message(data, token) for data, token in zip(found, tokens, strict=False)][place.skip :]


def _elements(body: bytes) -> list[bytes]:
    """The elements of an array, byte for byte."""
    try:
        found = [bytes(raw) for raw in _array_of_raw.decode(body)]
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError):
        found = []  # also what msgspec does not take, and JSON does
    if found and len(body) == sum(map(len, found)) + len(found) + 1:
        return found
    return _elements_with_space(body)


def _elements_with_space(body: bytes) -> list[bytes]:
    """The same of an array that has white space between its elements, or is none at all."""
    if body.strip()[:1] != b"[":
        raise UnexpectedAnswer("what was read is no JSON array, as an answer of a JSON stream is")
    try:
        wire, _ = to_wire(body)
    except InvalidJson as error:
        raise UnexpectedAnswer(f"what was read is no JSON: {error}") from None
    ends = Borders().feed(wire)
    return [wire[begin : end - 1] for begin, end in zip([0, *ends], ends, strict=False)]


def _positions(messages: list[bytes], start: str, end: str) -> list[str] | None:
    """The offset behind each message; None if their bytes are not those between the two offsets."""
    try:
        first, last = parse_offset(start), parse_offset(end)
    except InvalidOffset:
        return None
    begin = first.position if first.segment == last.segment else 0
    ends = list(accumulate((len(message) + 1 for message in messages), initial=begin))
    if ends[-1] != last.position:
        return None
    return [Offset(last.segment, position).token for position in ends[1:]]
