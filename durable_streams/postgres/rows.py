"""A stream's row as nodes know it, and its columns that hold more than one value."""

from __future__ import annotations

from hashlib import blake2b
from typing import TYPE_CHECKING, Final

import msgspec

from durable_streams.model.commands import Create, ForkRequest, Lifetime, ProducerClaim
from durable_streams.model.offsets import Offset
from durable_streams.rules.creates import Identity

if TYPE_CHECKING:
    from collections.abc import Sequence

    import asyncpg

    from durable_streams.model.paths import StreamPath

CHAIN_BYTES: Final = 16
"""Of a running checksum."""

_MARK_BYTES: Final = 8

FIRST_CHAIN: Final = bytes(CHAIN_BYTES)
"""Of what has no bytes yet."""


class Requested(msgspec.Struct, frozen=True):
    """What the create asked for, which later ones are compared with."""

    ttl_s: int | None = None
    expires_at: str | None = None
    expires_at_ms: int | None = None
    source: tuple[str, ...] | None = None
    offset: tuple[int, int] | None = None
    sub_offset: int = 0


class Layer(msgspec.Struct, frozen=True, array_like=True):
    """Up to ``end``, and from where the layer before ends, a stream has the runs of ``stream``.

    That is what it is a fork of, or itself, under the numbers that its segments had before a
    restore.  ``end`` counts as the fork does; ``shift``: how much higher its segments' numbers are.
    """

    stream: int
    shift: int
    end_segment: int
    end_position: int

    @property
    def end(self) -> Offset:
        """Where it ends."""
        return Offset(self.end_segment, self.end_position)


class Row(msgspec.Struct, frozen=True):
    """A row of ``streams`` at a version; ``forked``: whether there are forks of it.

    ``size_bytes``: of all its content.  ``closed_alone``: it was closed without data.

    ``held``: somebody follows it, on any node, and it has a TTL, which does not end it then.
    """

    id: int
    version: int
    content_type: str
    first_segment: int
    tail: Offset
    chain: bytes
    closed: bool
    closed_by: ProducerClaim | None
    closed_alone: bool
    size_bytes: int
    last_write_ms: int | None
    stream_seq: str | None
    lifetime: Lifetime
    deadline_ms: int | None
    created_ms: int
    requested: Requested
    soft_deleted: bool
    fork_of: int | None
    layers: tuple[Layer, ...]
    forked: bool
    held: bool
    now_ms: int

    @property
    def begin(self) -> Offset:
        """Where the stream begins."""
        return Offset(self.first_segment, 0)

    @property
    def mark(self) -> str:
        """What tells what the stream holds from all else that it may hold; empty: nothing does.

        Only who has its bytes knows it, and who knows one knows no other.
        """
        if self.chain == FIRST_CHAIN:
            return ""
        said = f"{self.version}.{self.tail.token}.{self.closed:d}".encode()
        return blake2b(said, digest_size=_MARK_BYTES, key=self.chain).hexdigest()

    @property
    def inherited(self) -> tuple[Layer, ...]:
        """Its layers that are of others: those behind them are its own, from before a restore."""
        return tuple([layer for layer in self.layers if layer.stream != self.id])

    @property
    def own(self) -> tuple[Layer, ...]:
        """The layers that its own runs are in, of which the last one ends at the tail."""
        last = Layer(self.id, 0, *self.tail)
        return (*[layer for layer in self.layers if layer.stream == self.id], last)

    @property
    def point(self) -> Offset:
        """Up to where it has what it is a fork of."""
        inherited = self.inherited
        return inherited[-1].end if inherited else self.begin

    def is_expired(self, now_ms: int) -> bool:
        """Whether it has ended by itself."""
        return self.deadline_ms is not None and now_ms >= self.deadline_ms and not self.held

    def identity(self) -> Identity:
        """What a create of the same stream is compared with."""
        asked = self.requested
        fork = None
        if asked.source is not None:
            offset = None if asked.offset is None else Offset(*asked.offset)
            fork = ForkRequest(asked.source, offset, asked.sub_offset)
        lifetime = Lifetime(asked.ttl_s, asked.expires_at, asked.expires_at_ms)
        return Identity(self.content_type, lifetime, self.closed, fork)


_requested: Final = msgspec.json.Decoder(Requested)
_layers: Final = msgspec.json.Decoder(tuple[Layer, ...])
_claims: Final = msgspec.json.Decoder(list[tuple[str, int, int] | None])
_claim: Final = msgspec.json.Decoder(tuple[str, int, int])
_encode: Final = msgspec.json.Encoder().encode


def row_of(record: asyncpg.Record) -> Row:
    """A row that was read with its ``now_ms``."""
    closed_by, layers = record["closed_by"], record["layers"]
    return Row(
        record["id"],
        record["version"],
        record["content_type"],
        record["first_segment"],
        Offset(record["segment"], record["position"]),
        record["chain"],
        record["closed"],
        None if closed_by is None else ProducerClaim(*_claim.decode(closed_by)),
        record["closed_alone"],
        record["size_bytes"],
        record["last_write_ms"],
        record["stream_seq"],
        Lifetime(record["ttl_s"], record["expires_at"], record["expires_at_ms"]),
        record["deadline_ms"],
        record["created_ms"],
        _requested.decode(record["requested"]),
        record["soft_deleted"],
        record["fork_of"],
        () if layers is None else _layers.decode(layers),
        record["forked"],
        record["held"],
        record["now_ms"],
    )


def sort_key(path: StreamPath) -> bytes:
    """What sorts as paths do; of what is below a path it is the beginning, and a NUL."""
    return "\0".join(path).encode()


def keys_below(prefix: StreamPath) -> tuple[bytes, bytes]:
    """From which key on a path and all below it sort, and which one is behind them."""
    first = sort_key(prefix)
    return first, first + b"\x01" if prefix else b"\xff"


def requested(command: Create) -> Requested:
    """What a create asked for."""
    life, fork = command.lifetime, command.fork
    asked = Requested(life.ttl_s, life.expires_at, life.expires_at_ms)
    if fork is not None:
        offset = None if fork.offset is None else (fork.offset.segment, fork.offset.position)
        asked = msgspec.structs.replace(
            asked, source=fork.source, offset=offset, sub_offset=fork.sub_offset
        )
    return asked


def requested_text(asked: Requested) -> str:
    """The same, as it is stored."""
    return _encode(asked).decode()


def layers_text(layers: Sequence[Layer]) -> str | None:
    """The layers of a fork, as they are stored."""
    return _encode(layers).decode() if layers else None


def claim_text(claim: ProducerClaim | None) -> str | None:
    """A producer's claim, as it is stored."""
    return None if claim is None else _encode((claim.id, claim.epoch, claim.seq)).decode()


def claims_text(claims: Sequence[ProducerClaim | None]) -> str | None:
    """Who made each append of a run, as it is stored: null if none was a producer's."""
    if not any(claims):
        return None
    made = [None if claim is None else (claim.id, claim.epoch, claim.seq) for claim in claims]
    return _encode(made).decode()


def claims_of(text: str | None, count: int) -> list[ProducerClaim | None]:
    """Undo that, for a run of so many appends."""
    if text is None:
        return [None] * count
    return [None if claim is None else ProducerClaim(*claim) for claim in _claims.decode(text)]
