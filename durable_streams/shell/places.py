"""Where a read begins and ends: the last so many, or times, found in the server's records."""

from __future__ import annotations

import re
from collections import deque
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final

from durable_streams.messages import Message
from durable_streams.model.errors import InvalidRequest, StreamNotFound, UnexpectedAnswer
from durable_streams.model.tokens import parse_offset
from durable_streams.rules.record_pages import MAX_RECORDS
from durable_streams.shell.formats import Content

if TYPE_CHECKING:
    from collections.abc import Iterable

    from durable_streams.model.offsets import Offset
    from durable_streams.shell.targets import AnyStreams

BEGINNING: Final = "-1"
_SECONDS: Final = {"s": 1, "m": 60, "h": 3600, "d": 86_400}
_SPAN: Final = re.compile(r"([0-9]{1,9})([smhd])(?: ago)?", re.ASCII)
WHEN: Final = "RFC 3339 (2027-01-31T00:00:00Z), or 90s, 10m, 2h, 3d ago"


def instant(text: str) -> datetime:
    """When something was, as people say it; ``ValueError`` if it is neither."""
    span = _SPAN.fullmatch(text.strip())
    now = datetime.now(UTC)
    if span is not None:
        return now - timedelta(seconds=int(span[1]) * _SECONDS[span[2]])
    found = datetime.fromisoformat(text)
    if found.tzinfo is None:
        raise ValueError(f"{text!r} has no time zone: end it with Z or +01:00")
    return found


async def first_since(streams: AnyStreams, path: str, when: datetime) -> str:
    """The offset of the first record at that time or later; the tail if there is none."""
    found = await streams.records(path, since=when, limit=1)
    return found.records[0].offset if found.records else found.next_offset


async def end_of(streams: AnyStreams, path: str, until: datetime) -> str | None:
    """The offset behind the last record up to that time; None if there is none behind."""
    later = until + timedelta(milliseconds=1)
    found = await streams.records(path, since=later, limit=1)
    return found.records[0].offset if found.records else None


async def last(
    streams: AnyStreams, path: str, content: Content, count: int
) -> tuple[list[Message], str]:
    """The last so many messages, or lines of text, and where to go on."""
    if not count:
        return [], (await streams.get_metadata(path)).next_offset
    asked = count
    while True:
        start = await _start_of_last(streams, path, asked)
        found, end = await _kept(streams, path, start or BEGINNING, content, count)
        if start is None or content is not Content.TEXT or _lines(found) >= count:
            return found, end
        asked *= 8


async def _start_of_last(streams: AnyStreams, path: str, count: int) -> str | None:
    """Where the last so many records begin; None if that is the beginning, or nobody knows."""
    if count > MAX_RECORDS:
        return None
    try:
        found = await streams.records(path, last=count)
    except (StreamNotFound, UnexpectedAnswer):  # another server, which has no records
        return None
    return found.records[0].offset if len(found.records) == count else None


async def _kept(
    streams: AnyStreams, path: str, start: str, content: Content, count: int
) -> tuple[list[Message], str]:
    """What is there from ``start`` on, but no more than the last so many; and its end."""
    end = start
    kept: deque[Message] = deque(maxlen=None if content is Content.TEXT else count)
    tail = streams.tail(path, start, live=False)
    while some := await tail.some():
        kept.extend(some)
        end = some[-1].offset
        if content is Content.TEXT:
            _drop_lines(kept, count)
    return _last_lines(list(kept), count) if content is Content.TEXT else list(kept), end


def _lines(messages: Iterable[Message]) -> int:
    data = b"".join(one.data for one in messages)
    return data.count(b"\n") + (not data.endswith(b"\n") and bool(data))


def _drop_lines(kept: deque[Message], count: int) -> None:
    """Forget the first pieces as long as the others have so many lines and the beginning of one."""
    behind = sum(one.data.count(b"\n") for one in kept)
    while kept and behind - kept[0].data.count(b"\n") > count:
        behind -= kept.popleft().data.count(b"\n")


def _last_lines(messages: list[Message], count: int) -> list[Message]:
    """Pieces without what is before the last so many lines; each keeps its own end."""
    data = b"".join(one.data for one in messages)
    place = len(data) - data.endswith(b"\n")
    for _ in range(count):
        place = data.rfind(b"\n", 0, place)
        if place < 0:
            return messages
    found = []
    left = place + 1
    for one in messages:
        if left < len(one.data):
            found.append(Message(one.data[left:], one.offset))
        left = max(0, left - len(one.data))
    return found


def up_to(message: Message, end: str) -> Message | None:
    """What of a message, or a piece of bytes, lies before ``end``; None: nothing.

    Positions begin at 0 in each segment, and no piece is of two of them.
    """
    try:
        place, limit = parse_offset(message.offset), parse_offset(end)
    except InvalidRequest:  # of another server, whose offsets need not be numbers
        return message
    if place <= limit:
        return message
    left = len(message.data) - size_between(limit, place) if place.segment == limit.segment else 0
    return Message(message.data[:left], end) if left > 0 else None


def size_between(begin: Offset, end: Offset) -> int:
    """How many bytes there are from the one to the other, which ends or is in the same segment."""
    return end.position - (begin.position if begin.segment == end.segment else 0)
