"""A journal file: a header, then batches, in a file of fixed size that is used again and again.

All integers are little-endian.

File header, 40 bytes at 0::

    8  magic      b"DSTREAMJ"
    4  format     1
    4  crc32      over the other 36 bytes
    8  generation of this use of the file; grows with every file begun
    8  first      number of the file's first batch
    8  salt       random: no client can write what looks like a batch of this file

Batch, from byte 40 on, each directly behind the one before::

    4  magic         0x42534a44 ("DJSB")
    4  crc32         over the file's salt, the rest of the header and the payload
    8  generation    of the file
    8  number        of the batch, never used twice, growing by one across files
    8  synced        every batch up to this number was durable when this one was written
    8  checkpointed  every batch up to this number is in the streams' files, durably
    4  length        of the payload in bytes
    -  payload       a MessagePack array of records

A record is a MessagePack array that begins with its kind; fields as in the classes below, paths as
``stored_path`` has them.  There are none of the kind ``fork`` in data directories of format 1.
Whatever does not continue the file's generation and the numbers is the journal's end: zeros, or
what an earlier use of the file left.  All records of a batch happen, or none.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Final, NamedTuple, TypeGuard

import msgspec

from durable_streams.filestore.format.checksum import crc32

if TYPE_CHECKING:
    from collections.abc import Sequence

FORMAT: Final = 1
_FILE: Final = struct.Struct("<8sII QQQ")
_BATCH: Final = struct.Struct("<II QQQQ I")
_MAGIC: Final = b"DSTREAMJ"
BATCH_MAGIC: Final = struct.pack("<I", 0x42534A44)
FILE_HEADER_BYTES: Final = 40
BATCH_HEADER_BYTES: Final = 44

if _FILE.size != FILE_HEADER_BYTES or _BATCH.size != BATCH_HEADER_BYTES:
    raise AssertionError("the structs do not match the specified sizes")


class _Record(msgspec.Struct, frozen=True, array_like=True, tag=True):
    path: str
    id: str


class CreateRecord(_Record, frozen=True, array_like=True, tag="create"):
    """A new stream: its sidecar and, if it has first content, its first index and bytes."""

    sidecar: bytes
    index: bytes
    data: bytes


class AdoptRecord(_Record, frozen=True, array_like=True, tag="adopt"):
    """A fork: ``tmp/<id>`` was built and synced before, and is renamed into place."""


class AppendRecord(_Record, frozen=True, array_like=True, tag="append"):
    """Bytes at a position of a segment and of its index; ``chain``: what they continue."""

    segment: int
    position: int
    index_position: int
    chain: bytes
    index: bytes
    data: bytes


class SidecarRecord(_Record, frozen=True, array_like=True, tag="sidecar"):
    """A new version of a sidecar."""

    version: int
    sidecar: bytes


class ForkRecord(_Record, frozen=True, array_like=True, tag="fork"):
    """A stream was forked; the fork's own record follows, in this batch or in a later one."""

    fork_id: str
    fork_path: str


class DeleteRecord(_Record, frozen=True, array_like=True, tag="delete"):
    """The end of a stream.

    ``next_segment``: the first one of a stream that is made at the path soon; 0, as in records of
    version 0.1, which have no such field, where that need not be above those of this one.
    """

    next_segment: int = 0


Record = CreateRecord | AdoptRecord | AppendRecord | SidecarRecord | ForkRecord | DeleteRecord


class FileHeader(NamedTuple):
    """Identity of one use of a journal file."""

    generation: int
    first: int
    salt: int


class Batch(NamedTuple):
    """A batch as read back; ``size_bytes`` with its header."""

    number: int
    synced: int
    checkpointed: int
    payload: bytes
    size_bytes: int


_MUCH_DATA: Final = 64 * 1024
_WITH_DATA: Final = (AppendRecord, CreateRecord)
_NO_DATA: Final = msgspec.msgpack.encode(b"")
_BIN_32: Final = 0xC6  # MessagePack: bytes with a length of 4 bytes, big-endian
_encode: Final = msgspec.msgpack.Encoder().encode
_decoder: Final = msgspec.msgpack.Decoder(list[Record])


def pack_header(header: FileHeader) -> bytes:
    """The first 40 bytes of a file."""
    rest = struct.pack("<QQQ", *header)
    crc = crc32(rest, crc32(struct.pack("<8sI", _MAGIC, FORMAT)))
    return struct.pack("<8sII", _MAGIC, FORMAT, crc) + rest


def unpack_header(data: bytes) -> FileHeader | None:
    """Read a file's header; None if it is not whole (a new or torn file)."""
    if len(data) < FILE_HEADER_BYTES:
        return None
    header = FileHeader(*struct.unpack_from("<QQQ", data, 16))
    return header if data[:FILE_HEADER_BYTES] == pack_header(header) else None


def pack_records(records: Sequence[Record]) -> list[bytes]:
    """The payload of a batch, in pieces: large data is a piece of its own, and not copied."""
    if not any(map(_has_much_data, records)):
        return [_encode(records)]
    pieces = [_encode([None] * len(records))[: -len(records)]]  # a None is one byte
    for record in records:
        if _has_much_data(record):
            data = record.data
            start = _encode(msgspec.structs.replace(record, data=b""))
            pieces += (start[: -len(_NO_DATA)], struct.pack(">BI", _BIN_32, len(data)), data)
        else:
            pieces.append(_encode(record))
    return pieces


def _has_much_data(record: Record) -> TypeGuard[AppendRecord | CreateRecord]:
    return isinstance(record, _WITH_DATA) and len(record.data) >= _MUCH_DATA


def unpack_records(payload: bytes) -> list[Record]:
    """Read a batch's payload, whose checksum was right; ``ValueError`` if it is no record list."""
    return _decoder.decode(payload)


def pack_batch(
    file: FileHeader, number: int, synced: int, checkpointed: int, payload: list[bytes]
) -> list[bytes]:
    """A whole batch of a file, header and payload; in pieces if the payload is."""
    size = sum(map(len, payload))
    rest = struct.pack("<QQQQI", file.generation, number, synced, checkpointed, size)
    crc = crc32(rest, _seed(file))
    for piece in payload:
        crc = crc32(piece, crc)
    header = BATCH_MAGIC + struct.pack("<I", crc) + rest
    return [header + payload[0]] if len(payload) == 1 else [header, *payload]


def _seed(file: FileHeader) -> int:
    return crc32(struct.pack("<Q", file.salt))


def unpack_batch(data: memoryview, position: int, file: FileHeader) -> Batch | None:
    """Read the intact batch of this use of the file at ``position``; None if there is none."""
    if position + BATCH_HEADER_BYTES > len(data):
        return None
    magic, crc, written_by, number, synced, checkpointed, length = _BATCH.unpack_from(
        data, position
    )
    begin = position + BATCH_HEADER_BYTES
    if magic != 0x42534A44 or written_by != file.generation or begin + length > len(data):
        return None
    payload = bytes(data[begin : begin + length])
    if crc32(payload, crc32(data[position + 8 : begin], _seed(file))) != crc:
        return None
    return Batch(number, synced, checkpointed, payload, BATCH_HEADER_BYTES + length)
