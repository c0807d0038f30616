"""The records of one stream's life, made as the engine makes them, and what they amount to."""

from __future__ import annotations

from hashlib import blake2b
from typing import TYPE_CHECKING, Final

import msgspec

from durable_streams.filestore.format import index as index_format
from durable_streams.filestore.format import sidecar as sidecar_format
from durable_streams.filestore.format.index import root_of
from durable_streams.filestore.format.journal import (
    AppendRecord,
    CreateRecord,
    DeleteRecord,
    SidecarRecord,
)
from durable_streams.filestore.format.sidecar import Requested, Sidecar
from durable_streams.rules.producers import ProducerState

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from durable_streams.model.commands import ProducerClaim

TIME_MS: Final = 1_764_000_000_000
ID: Final = "0123456789abcdef01234567"
OTHER_ID: Final = "fedcba9876543210fedcba98"


def sidecar_of(path: str, stream_id: str, content_type: str = "text/plain") -> Sidecar:
    return Sidecar(
        id=stream_id,
        path=path,
        content_type=content_type,
        created_ms=TIME_MS,
        last_use_ms=TIME_MS,
        root=root_of(stream_id).hex(),
        requested=Requested(),
    )


def pack_opening_1(
    chain: bytes,
    segment: int,
    previous: tuple[int, int] | None,
    producers: Mapping[str, ProducerState],
    stream_seq: str | None,
) -> tuple[bytes, bytes]:
    """The first line of an index as version 0.1 wrote it, and the chain after it."""
    fields = {
        "index": 1,
        "segment": segment,
        "continues": chain.hex(),
        "previous": previous,
        "producers": {name: (state.epoch, state.seq) for name, state in producers.items()},
        "stream_seq": stream_seq,
    }
    return sealed(chain, msgspec.json.encode(fields)[:-1])


def sealed(chain: bytes, text: bytes) -> tuple[bytes, bytes]:
    """A line that says what it likes, with a right checksum, and the chain after it."""
    digest = blake2b(chain + text, digest_size=8)
    return text + b',"chain":"%b"}\n' % digest.hexdigest().encode(), digest.digest()


class History:
    """A stream as its writer sees it: every verb returns the record that the journal gets.

    ``version``: of the format of its indexes.
    """

    def __init__(self, path: str = "s", stream_id: str = ID, *, version: int = 2) -> None:
        self.version = version
        self.path = path
        self.id = stream_id
        self.sidecar = sidecar_of(path, stream_id)
        self.chain = root_of(stream_id)
        self.segments: list[bytes] = [b""]
        self.index = b""
        self.producers: dict[str, ProducerState] = {}
        self.stream_seq: str | None = None

    @property
    def segment(self) -> int:
        return len(self.segments) - 1

    @property
    def place(self) -> tuple[int, int]:
        """The tail, as segment and position."""
        return self.segment, len(self.segments[-1])

    def create(self, data: bytes = b"", *, closed: bool = False) -> CreateRecord:
        sidecar = sidecar_format.pack(self.sidecar)
        index = self.append(data, close=closed).index if data or closed else b""
        return CreateRecord(self.path, self.id, sidecar, index, data)

    def append(
        self,
        data: bytes,
        *,
        roll: bool = False,
        messages: int = 1,
        time_ms: int = TIME_MS,
        forgot: Sequence[str] = (),
        producer: ProducerClaim | None = None,
        stream_seq: str | None = None,
        close: bool = False,
    ) -> AppendRecord:
        """``roll``: begin a new segment with it."""
        before, previous, opening = self.chain, None, b""
        if roll:
            previous = (len(self.segments[-1]), len(self.index))
            self.segments.append(b"")
            self.index = b""
        position, index_position = len(self.segments[-1]), len(self.index)
        if not index_position:
            pack_opening = pack_opening_1 if self.version == 1 else index_format.pack_opening
            opening, self.chain = pack_opening(
                self.chain, self.segment, previous, self.producers, self.stream_seq
            )
        line, self.chain = index_format.pack_line(
            self.chain,
            position + len(data),
            messages=messages if data else 0,
            crc=index_format.checksum(data),
            time_ms=time_ms,
            forgot=forgot,
            producer=producer,
            stream_seq=stream_seq,
            closed=close,
        )
        self.segments[-1] += data
        self.index += opening + line
        for name in forgot:
            del self.producers[name]
        if producer is not None:
            self.producers[producer.id] = ProducerState(producer.epoch, producer.seq, time_ms)
        if stream_seq is not None:
            self.stream_seq = stream_seq
        return AppendRecord(
            self.path,
            self.id,
            self.segment,
            position,
            index_position,
            before,
            opening + line,
            data,
        )

    def change(self, **changes: object) -> SidecarRecord:
        self.sidecar = msgspec.structs.replace(
            self.sidecar, version=self.sidecar.version + 1, **changes
        )
        data = sidecar_format.pack(self.sidecar)
        return SidecarRecord(self.path, self.id, self.sidecar.version, data)

    def delete(self) -> DeleteRecord:
        return DeleteRecord(self.path, self.id)
