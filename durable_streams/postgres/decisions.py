"""What a line of appends to one stream comes to: decided by the rules, from a row, without I/O."""

from __future__ import annotations

from hashlib import blake2b
from typing import TYPE_CHECKING, Final

import msgspec

from durable_streams.model.errors import StreamError, StreamGone, StreamNotFound
from durable_streams.model.offsets import Offset
from durable_streams.model.paths import path_text
from durable_streams.model.results import Appended
from durable_streams.postgres.rows import CHAIN_BYTES, Row
from durable_streams.rules import json_mode, media_type
from durable_streams.rules.appends import Repeat, WriterState, decide_append
from durable_streams.rules.producers import ProducerState
from durable_streams.settings import MIB

if TYPE_CHECKING:
    from collections.abc import Iterable

    from durable_streams.model.commands import ProducerClaim
    from durable_streams.model.paths import StreamPath
    from durable_streams.postgres.tickets import Writing
    from durable_streams.rules.producer_table import ProducerTable

SEGMENT_BYTES: Final = 16 * MIB
"""After which a run begins another segment."""


class Limits(msgspec.Struct, frozen=True):
    """What the producers of a stream may take, and how many there may be; 0: any number."""

    producers_bytes: int = MIB
    producers: int = 0


ANY_NUMBER: Final = Limits()


class Run(msgspec.Struct):
    """What is appended to one stream in one commit."""

    start: Offset
    before: bytes
    ends: list[int] = msgspec.field(default_factory=list)
    claims: list[ProducerClaim | None] = msgspec.field(default_factory=list)
    data: list[bytes] = msgspec.field(default_factory=list)


class Plan(msgspec.Struct):
    """What is to be written to a stream, and what to answer when it is.

    ``row``: as it will be.  ``run``: None if it only closes, or nothing is written.
    ``known``, ``forgotten``: producers.  ``used``: a repetition renews a TTL.
    """

    row: Row
    answers: list[tuple[Writing, Appended | StreamError]]
    writes: bool = False
    run: Run | None = None
    known: dict[str, ProducerState] = msgspec.field(default_factory=dict)
    forgotten: set[str] = msgspec.field(default_factory=set)
    used: bool = False


def chained(chain: bytes, data: bytes) -> bytes:
    """The running checksum behind bytes that were appended at once."""
    return blake2b(data, digest_size=CHAIN_BYTES, key=chain).digest()


def why_unusable(path: StreamPath, row: Row | None, now_ms: int) -> StreamError | None:
    """Why a stream at a path cannot be used; None if it can."""
    if row is None:
        return StreamNotFound(path_text(path))
    if row.soft_deleted:
        return StreamGone(path_text(path))
    if row.is_expired(now_ms):
        return (StreamGone if row.forked else StreamNotFound)(path_text(path))
    return None


class _Tail:
    """Where a stream ends, for whoever is told that it is closed."""

    def __init__(self, offset: Offset) -> None:
        self.offset = offset


def decide(
    row: Row, producers: ProducerTable, line: Iterable[Writing], now_ms: int, limits: Limits
) -> Plan:
    """Decide about appends one after the other; ``producers`` become what they will be."""
    plan = Plan(row, [])
    for writing in line:
        try:
            answer: Appended | StreamError = _decide_one(plan, producers, writing, now_ms, limits)
        except StreamError as error:
            answer = error
        plan.answers.append((writing, answer))
    return plan


def row_after(plan: Plan, row: Row, now_ms: int) -> Row:
    """The row when what was decided on it is written; it is used then."""
    after = plan.row
    if after.lifetime.ttl_s is not None and (plan.writes or plan.used):
        deadline_ms = max(after.deadline_ms or 0, now_ms + after.lifetime.ttl_s * 1000)
        after = msgspec.structs.replace(after, deadline_ms=deadline_ms)
    if not plan.writes:
        return after
    return msgspec.structs.replace(after, version=row.version + 1, last_write_ms=now_ms)


def _decide_one(
    plan: Plan, producers: ProducerTable, writing: Writing, now_ms: int, limits: Limits
) -> Appended:
    row, command, body = plan.row, writing.command, writing.body
    claim = command.producer
    state = WriterState(
        row.content_type, _Tail(row.tail), row.closed, row.closed_by, row.stream_seq
    )
    known = producers.states.get(claim.id) if claim else None
    decision = decide_append(state, known, command, bool(body))
    if isinstance(decision, Repeat):
        plan.used = True
        return Appended(row.tail, row.closed, False, duplicate=True, producer=decision.producer)
    data = wire(writing, row.content_type)
    if claim is not None:
        _remember(plan, producers, claim, now_ms, limits)
    tail, chain = row.tail, row.chain
    if data:
        tail, chain = _append(plan, data, claim)
    plan.writes = True
    plan.row = msgspec.structs.replace(
        row,
        tail=tail,
        chain=chain,
        closed=decision.closes,
        closed_by=claim if decision.closes else None,
        closed_alone=decision.closes and not data,
        size_bytes=row.size_bytes + len(data),
        stream_seq=row.stream_seq if command.stream_seq is None else command.stream_seq,
    )
    echo = (claim.epoch, claim.seq) if claim else None
    return Appended(tail, decision.closes, bool(data), producer=echo)


def wire(writing: Writing, content_type: str) -> bytes:
    """The bytes that are stored of a body; ``InvalidJson``."""
    if not writing.body or not media_type.is_json(content_type):
        return writing.body
    if writing.parsed is not None:
        if isinstance(writing.parsed, StreamError):
            raise writing.parsed
        return writing.parsed
    return json_mode.to_wire(writing.body, allow_empty=False)[0]


def _append(plan: Plan, data: bytes, claim: ProducerClaim | None) -> tuple[Offset, bytes]:
    if plan.run is None:
        start = plan.row.tail
        if start.position >= SEGMENT_BYTES:
            start = Offset(start.segment + 1, 0)
        plan.run = Run(start, plan.row.chain)
        begin = start.position
    else:
        begin = plan.run.ends[-1]
    run = plan.run
    run.ends.append(begin + len(data))
    run.claims.append(claim)
    run.data.append(data)
    return Offset(run.start.segment, run.ends[-1]), chained(plan.row.chain, data)


def _remember(
    plan: Plan, producers: ProducerTable, claim: ProducerClaim, now_ms: int, limits: Limits
) -> None:
    """Note a producer's claim, and who is forgotten for it where there is no more room."""
    if claim.id not in producers.states:
        for name in producers.room_for(claim.id, now_ms, limits.producers_bytes, limits.producers):
            producers.remove(name)
            plan.known.pop(name, None)
            plan.forgotten.add(name)
    state = ProducerState(claim.epoch, claim.seq, now_ms)
    producers.put(claim.id, state)
    plan.forgotten.discard(claim.id)
    plan.known[claim.id] = state
