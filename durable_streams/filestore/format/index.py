"""The index of a segment: ``<segment>-<id>.idx``, lines of JSON.

The first line opens the file, each further line is one append::

    {"index":2,"segment":1,"continues":"<chain>","previous":[<segment bytes>,<index bytes>],
     "producers":{"<id>":[<epoch>,<seq>,<time>]},"stream_seq":"<last>","chain":"<chain>"}
    {"end":256,"messages":1,"crc32":"<8 hex>","time":1764000000000,
     "forgot":["<id>"],"producer":["<id>",<epoch>,<seq>],
     "stream_seq":"<seq>","closed":true,"chain":"<chain>"}

(each on one line; ``forgot``, ``producer``, ``stream_seq`` and ``closed`` only where they apply;
``stream_seq`` may be null in the first line.)

``segment``   the number that the file was begun with (that it has in a fork may be higher)
``end``       position in the segment file after the append
``messages``  number of JSON messages, 1 for byte streams with data, 0 for a close without data
``crc32``     of the append's bytes in the segment file
``time``      milliseconds since 1970
``previous``  final sizes of the segment before, and of its index, in bytes; null in the first one
``producers`` every producer's epoch, highest sequence and ``time`` of its last append, at the
              beginning of this segment
``forgot``    producers that this append's new producer took the room of: they are known no more
``chain``     the running checksum: BLAKE2b (8 bytes, hex) over the chain before this line and the
              line's text up to ``,"chain"``.  The stream's first index continues the ``root`` in
              its sidecar, every other one the last line of the index before (``continues``).

So one line proves everything before it, ``end`` is the first field of a line, and the file can be
read without knowing whose it is: a hard link of it is as good as the original.

The first line's producers and what the lines behind it do to them are all that is known, whatever
limit or clock had one forgotten.

Format 1, of version 0.1, has no times in ``producers``: that of the last append in the segment
before counts for all of them.  No file is begun in it any more; one that was is written on.

A newer format keeps ``index`` as the first field, so that this version tells it from damage.
"""

from __future__ import annotations

from hashlib import blake2b
from typing import TYPE_CHECKING, Final

import msgspec

from durable_streams.filestore.format.checksum import crc32
from durable_streams.model.commands import ProducerClaim
from durable_streams.model.offsets import Offset
from durable_streams.rules.producers import ProducerState

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

FORMAT: Final = 2
READ_FORMATS: Final = (1, FORMAT)
CHAIN_BYTES: Final = 8
LONGEST_LINE: Final = 8192
"""Ids and sequences have up to 256 bytes, at most 6 times escaped; ``forgot`` less than 4 KiB."""

_CHAIN_FIELD: Final = b',"chain":"'
_ENDING: Final = len(_CHAIN_FIELD) + 2 * CHAIN_BYTES + len(b'"}')


class Tail(msgspec.Struct, frozen=True, gc=False):
    """The end of a stream, as its last index line proves it.

    ``segment`` and ``position``: the tail offset.  ``index_position``: bytes of the index used.
    """

    segment: int
    position: int
    index_position: int
    chain: bytes
    closed: bool = False
    closed_by: ProducerClaim | None = None
    stream_seq: str | None = None

    @property
    def offset(self) -> Offset:
        """The tail as an offset."""
        return Offset(self.segment, self.position)


class Opening(msgspec.Struct, frozen=True):
    """The first line of an index."""

    index: int
    segment: int
    continues: str
    previous: tuple[int, int] | None
    producers: dict[str, ProducerState]
    stream_seq: str | None
    chain: str

    def follows(self, chain: bytes) -> bool:
        """Whether the index continues a running checksum; else it is of another age."""
        return self.continues == chain.hex()

    def known_producers(self, last_ms: int) -> dict[str, ProducerState]:
        """The producers; ``last_ms``: when the last append in the segment before was."""
        if self.index != 1:
            return dict(self.producers)
        return {name: state._replace(time_ms=last_ms) for name, state in self.producers.items()}


class Line(msgspec.Struct, frozen=True):
    """One append."""

    end: int
    messages: int
    crc32: str
    time: int
    chain: str
    producer: tuple[str, int, int] | None = None
    stream_seq: str | None = None
    closed: bool = False
    forgot: tuple[str, ...] = ()

    def claim(self) -> ProducerClaim | None:
        """The producer triple as the protocol's type."""
        return ProducerClaim(*self.producer) if self.producer else None

    def change(self, producers: dict[str, ProducerState]) -> None:
        """Bring a stream's producers from before the append to behind it."""
        for name in self.forgot:
            producers.pop(name, None)
        if self.producer is not None:
            name, epoch, seq = self.producer
            producers[name] = ProducerState(epoch, seq, self.time)


class BadLine(ValueError):
    """A line is not of this format, or does not continue the chain."""


class NewerIndex(BadLine):
    """The file was written by a newer version of this program."""


class _Numbered(msgspec.Struct, frozen=True):
    """What a first line of ours begins with."""

    segment: int


class _Head(msgspec.Struct, frozen=True):
    """What first lines of every format have."""

    index: int
    continues: str = ""


_head_decoder: Final = msgspec.json.Decoder(_Head)
_numbered_decoder: Final = msgspec.json.Decoder(_Numbered)
_opening_decoder: Final = msgspec.json.Decoder(Opening)
_line_decoder: Final = msgspec.json.Decoder(Line)
_quote: Final = msgspec.json.Encoder().encode


def root_of(stream_id: str) -> bytes:
    """The chain before a fresh stream's first line."""
    return blake2b(stream_id.encode(), digest_size=CHAIN_BYTES).digest()


def checksum(data: bytes) -> int:
    """The checksum of an append's bytes."""
    return crc32(data)


def _seal(chain: bytes, text: bytes) -> tuple[bytes, bytes]:
    digest = blake2b(chain + text, digest_size=CHAIN_BYTES)
    return text + _CHAIN_FIELD + digest.hexdigest().encode() + b'"}\n', digest.digest()


def pack_opening(
    chain: bytes,
    segment: int,
    previous: tuple[int, int] | None,
    producers: Mapping[str, ProducerState],
    stream_seq: str | None,
) -> tuple[bytes, bytes]:
    """The first line of an index and the chain after it."""
    text = _quote(
        {
            "index": FORMAT,
            "segment": segment,
            "continues": chain.hex(),
            "previous": previous,
            "producers": producers,
            "stream_seq": stream_seq,
        }
    )
    return _seal(chain, text[:-1])


def pack_line(
    chain: bytes,
    end: int,
    *,
    messages: int,
    crc: int,
    time_ms: int,
    forgot: Sequence[str] = (),
    producer: ProducerClaim | None = None,
    stream_seq: str | None = None,
    closed: bool = False,
) -> tuple[bytes, bytes]:
    """The line of one append and the chain after it."""
    text = b'{"end":%d,"messages":%d,"crc32":"%08x","time":%d' % (end, messages, crc, time_ms)
    if forgot:
        text += b',"forgot":' + _quote(forgot)
    if producer is not None:
        quoted = _quote(producer.id)
        text += b',"producer":[%b,%d,%d]' % (quoted, producer.epoch, producer.seq)
    if stream_seq is not None:
        text += b',"stream_seq":' + _quote(stream_seq)
    if closed:
        text += b',"closed":true'
    return _seal(chain, text)


def _check(line: bytes, chain: bytes) -> bytes:
    text, rest = line[:-_ENDING], line[-_ENDING:]
    digest = blake2b(chain + text, digest_size=CHAIN_BYTES)
    if rest != _CHAIN_FIELD + digest.hexdigest().encode() + b'"}':
        raise BadLine("the line does not continue the running checksum")
    return digest.digest()


def unpack_opening(line: bytes) -> tuple[Opening, bytes]:
    """Read a first line (without its newline) that is intact in itself; the chain after it."""
    try:
        opening = _opening_decoder.decode(line)
        continues = bytes.fromhex(opening.continues)
    except (msgspec.MsgspecError, ValueError) as error:
        _refuse_newer(line)
        raise BadLine(f"no opening line: {error}") from None
    if opening.index not in READ_FORMATS:
        _refuse_newer(line)
        raise BadLine(f"index format {opening.index} is unknown to this version")
    return opening, _check(line, continues)


def segment_of(text: bytes) -> int:
    """The number of the segment that index text begins, unchecked; ``BadLine`` if it does not."""
    try:
        return _numbered_decoder.decode(text.partition(b"\n")[0]).segment
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise BadLine(f"no opening line: {error}") from None


def _refuse_newer(line: bytes) -> None:
    """Raise :class:`NewerIndex` unless it is a line of this format, or none, that was damaged."""
    try:
        head = _head_decoder.decode(line)
        continues = bytes.fromhex(head.continues)
    except (msgspec.MsgspecError, ValueError):
        return
    if head.index <= FORMAT:
        return
    for number in READ_FORMATS:
        try:
            _check(line.replace(b'{"index":%d' % head.index, b'{"index":%d' % number, 1), continues)
        except BadLine:
            continue
        return
    raise NewerIndex(
        f"index format {head.index} is unknown to this version: written by a newer version"
    )


def unpack_line(line: bytes, chain: bytes) -> tuple[Line, bytes]:
    """Read the line (without its newline) that continues ``chain``; the chain after it."""
    try:
        decoded = _line_decoder.decode(line)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise BadLine(f"no append line: {error}") from None
    return decoded, _check(line, chain)


def said_by(line: bytes) -> Line | None:
    """What a line states, unchecked; None if it is no line."""
    try:
        return _line_decoder.decode(line)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return None


def time_of(line: bytes) -> int | None:
    """The time that a line states, unchecked; None if it is no line."""
    said = said_by(line)
    return None if said is None else said.time


def chain_at_end(text: bytes) -> bytes | None:
    """The chain that the last line of ``text`` states, unchecked; None if it ends in no line."""
    if not text.endswith(b'"}\n'):
        return None
    if text[-1 - _ENDING : -3 - 2 * CHAIN_BYTES] != _CHAIN_FIELD:
        return None
    try:
        return bytes.fromhex(text[-3 - 2 * CHAIN_BYTES : -3].decode("ascii"))
    except ValueError:
        return None
