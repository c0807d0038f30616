"""One stream, copied from a server: what the copy lacks is appended, and all of it is compared.

Nothing is kept of how far a copy came: the stream that is there is compared with its source from
the beginning, and what is missing at its end is appended.  So a copy can be broken off anywhere and
begun again, one that is complete is found to be so, and what differs is never written over.  Of the
source everything is only read.  One writer for each copy: whoever else appends to it meanwhile
makes it differ.

Compared is what the files of this server have: bytes, or each message of JSON with a comma.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from durable_streams.model.errors import StreamNotFound
from durable_streams.rules.media_type import is_json, normalise, same

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from durable_streams.client.aio import RemoteStreams
    from durable_streams.outcomes import MessagesResult, Metadata, ReadResult
    from durable_streams.streams import Streams

_APPEND_BYTES: Final = 1024 * 1024
"""What is appended at once, unless one message is larger: far below what servers take."""


class Differs(Exception):
    """What is there is no copy of the source, or of the beginning of it; ``str()`` says where."""


@dataclass(frozen=True, slots=True)
class Copied:
    """A stream that is there whole: how large it is, and how much of it is new.

    A reader who was at ``source_offset`` of the source goes on at ``offset`` of the copy.
    """

    path: str
    size_bytes: int
    new_bytes: int
    source_offset: str
    offset: str
    closed: bool


class _Reader:
    """A stream from its beginning to its tail, in pieces that can be appended."""

    def __init__(self, streams: Streams | RemoteStreams, path: str, *, as_json: bool) -> None:
        self._streams = streams
        self._path = path
        self._as_json = as_json
        self.offset = "-1"
        self.is_over = self.closed = False

    async def read(self) -> list[bytes]:
        """The next ones: messages, each with a comma, or bytes."""
        if self._as_json:
            found = await self._streams.read_messages(self._path, self.offset)
            return self._at([message.data + b"," for message in found.messages], found)
        read = await self._streams.read(self._path, self.offset)
        return self._at(_cut(read.data), read)

    def _at(self, units: list[bytes], found: MessagesResult | ReadResult) -> list[bytes]:
        self.offset = found.next_offset
        self.is_over, self.closed = found.up_to_date, found.closed
        return units


class _Copy:
    """What is there of a copy, in whatever amounts it is asked for."""

    def __init__(self, reader: _Reader) -> None:
        self._reader = reader
        self._held = bytearray()

    async def take(self, size_bytes: int) -> bytes:
        """The next bytes; fewer at the end."""
        while len(self._held) < size_bytes and not self._reader.is_over:
            self._held += b"".join(await self._reader.read())
        taken = bytes(self._held[:size_bytes])
        del self._held[:size_bytes]
        return taken

    async def has_more(self) -> bool:
        """Whether there is more of it."""
        while not self._held and not self._reader.is_over:
            self._held += b"".join(await self._reader.read())
        return bool(self._held)


def _cut(data: bytes) -> list[bytes]:
    return [data[begin : begin + _APPEND_BYTES] for begin in range(0, len(data), _APPEND_BYTES)]


async def copy(
    source: RemoteStreams,
    target: Streams | RemoteStreams,
    path: str,
    progress: Callable[[int], None] = lambda _: None,
) -> Copied:
    """Copy a stream up to its tail, closed if it is; ``progress`` is told of bytes that are read.

    Raises :class:`Differs`, and what either side refuses.
    """
    found = await source.get_metadata(path)
    there = await _made(target, path, found)
    as_json = is_json(normalise(found.content_type) or found.content_type)
    reader = _Reader(source, path, as_json=as_json)
    copied = _Copy(_Reader(target, path, as_json=as_json))
    size = new = 0
    checksum = hashlib.sha256()
    while not reader.is_over:
        units = await reader.read()
        data = b"".join(units)
        checksum.update(data)
        have = await copied.take(len(data))
        if not data.startswith(have):
            raise _differs(path, size)
        missing = _behind(units, len(have), as_json=as_json)
        if missing is None or (missing and there.closed):
            raise _differs(path, size + len(have))
        await _append(target, path, found.content_type, missing, as_json=as_json)
        size += len(data)
        new += len(data) - len(have)
        progress(len(data))
    if await copied.has_more():
        raise Differs(f"{path} has more than its source: something else was appended to it")
    if reader.closed and not there.closed:
        await target.close(path)
    end = await _verified(target, path, checksum.digest(), as_json=as_json) if new else None
    offset = end or (await target.get_metadata(path)).next_offset
    return Copied(path, size, new, reader.offset, offset, reader.closed)


async def _made(target: Streams | RemoteStreams, path: str, found: Metadata) -> Metadata:
    """The stream of a copy, as it is there, or made like its source."""
    try:
        there = await target.get_metadata(path)
    except StreamNotFound:
        return await target.create(
            path,
            content_type=found.content_type,
            ttl_s=found.ttl_s,
            expires_at=found.expires_at if found.ttl_s is None else None,
        )
    if not same(there.content_type, found.content_type):
        raise Differs(f"{path} is {there.content_type} there, and its source {found.content_type}")
    return there


def _behind(units: Sequence[bytes], size_bytes: int, *, as_json: bool) -> list[bytes] | None:
    """Those behind so many bytes; None if that would cut a message."""
    for number, unit in enumerate(units):
        if size_bytes < len(unit):
            if size_bytes and as_json:
                return None
            return [unit[size_bytes:], *units[number + 1 :]]
        size_bytes -= len(unit)
    return []


def _differs(path: str, position: int) -> Differs:
    return Differs(f"{path} is no copy of its source: they differ within what follows {position}")


async def _append(
    target: Streams | RemoteStreams,
    path: str,
    content_type: str,
    units: list[bytes],
    *,
    as_json: bool,
) -> None:
    """Append them, as many at once as are not too large together."""
    begin = 0
    while begin < len(units):
        end, size = begin + 1, len(units[begin])
        while end < len(units) and size + len(units[end]) <= _APPEND_BYTES:
            size += len(units[end])
            end += 1
        data = b"".join(units[begin:end])
        if as_json:
            data = b"[%b]" % data[:-1]
        await target.append(path, data, content_type=content_type)
        begin = end


async def _verified(
    target: Streams | RemoteStreams, path: str, digest: bytes, *, as_json: bool
) -> str:
    """Read the copy back; its tail."""
    reader = _Reader(target, path, as_json=as_json)
    checksum = hashlib.sha256()
    while not reader.is_over:
        for unit in await reader.read():
            checksum.update(unit)
    if checksum.digest() != digest:
        raise Differs(f"{path} was copied, and is not what was read: something appends to it")
    return reader.offset
