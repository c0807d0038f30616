"""What an append or a close does to a stream: the order of checks of protocol §5.2.

    1. syntax of headers and body            check_syntax, before the stream is looked up
    2. existence                             the engine
    3. closed                                ┐
    4. content type                          │ decide_append
    5. producer                              │
    6. Stream-Seq                            ┘
    7. the body's JSON                       the engine, with json_mode

So a duplicate is answered as one whatever its body, and a writer to a closed stream always
learns that it is closed.  Nothing here changes anything: a request that fails a check leaves
no trace, no sequence number included.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final, Protocol

import msgspec

from durable_streams.model.errors import (
    ContentTypeMismatch,
    InvalidRequest,
    SequenceConflict,
    StreamClosed,
)
from durable_streams.rules.lifetime import MAX_INTEGER
from durable_streams.rules.media_type import same
from durable_streams.rules.producers import Duplicate, decide

if TYPE_CHECKING:
    from durable_streams.model.commands import Append, ProducerClaim
    from durable_streams.model.offsets import Offset
    from durable_streams.rules.producers import ProducerState

MAX_TEXT_BYTES: Final = 256
"""Of ``Producer-Id`` and ``Stream-Seq``: they are kept in memory and in every index line."""

_CONTROL_CHARACTER: Final = re.compile(r"[\x00-\x1f\x7f-\x9f]")


class HasOffset(Protocol):
    """What knows where a stream ends."""

    @property
    def offset(self) -> Offset:
        """Made when it is asked for, as only who comes too late is told."""


class WriterState(msgspec.Struct, frozen=True, gc=False):
    """What a stream remembers for its writers.

    ``closed_by``: the producer headers of the request that closed it, None if it had none.
    ``stream_seq``: the last ``Stream-Seq`` accepted.
    """

    content_type: str
    tail: HasOffset
    closed: bool = False
    closed_by: ProducerClaim | None = None
    stream_seq: str | None = None


class Write(msgspec.Struct, frozen=True, gc=False):
    """Append the body (``has_data``), close the stream (``closes``), or both as one."""

    closes: bool
    has_data: bool


class Repeat(msgspec.Struct, frozen=True, gc=False):
    """Done before, nothing to write; ``producer`` is (epoch, highest seq) to echo."""

    producer: tuple[int, int] | None


def check_producer(claim: ProducerClaim) -> ProducerClaim:
    """Refuse a producer's id or numbers that no client can send (400)."""
    _check_text("Producer-Id", claim.id)
    for name, number in (("Producer-Epoch", claim.epoch), ("Producer-Seq", claim.seq)):
        if not 0 <= number <= MAX_INTEGER:
            raise InvalidRequest(f"{name} must be an integer from 0 to {MAX_INTEGER}")
    return claim


def check_stream_seq(value: str) -> str:
    """Refuse a ``Stream-Seq`` that is empty, too long or no text (400)."""
    return _check_text("Stream-Seq", value)


def _check_text(name: str, value: str) -> str:
    try:
        size_bytes = len(value) if value.isascii() else len(value.encode())
    except UnicodeEncodeError:
        raise InvalidRequest(f"{name} must be valid Unicode") from None
    if not 0 < size_bytes <= MAX_TEXT_BYTES:
        raise InvalidRequest(f"{name} must have 1 to {MAX_TEXT_BYTES} bytes")
    if _CONTROL_CHARACTER.search(value):
        raise InvalidRequest(f"{name} must not hold control characters")
    return value


def check_syntax(command: Append, has_body: bool) -> None:
    """Refuse what no stream could take: no body without a close, a body without a type (400)."""
    if not has_body:
        if not command.close:
            raise InvalidRequest("an append needs a body, unless it closes the stream")
    elif command.content_type is None:
        raise InvalidRequest("an append needs a valid Content-Type")


def decide_append(
    state: WriterState, producer: ProducerState | None, command: Append, has_body: bool
) -> Write | Repeat:
    """Decide about a request that passed :func:`check_syntax`.

    ``producer`` is the state of the producer the command names, None if the stream does not
    know it.  Raises :class:`StreamClosed`, :class:`ContentTypeMismatch`, what
    :func:`.producers.decide` raises, or :class:`SequenceConflict`, in this order.
    """
    if state.closed:
        return _decide_closed(state, command, has_body)
    given = command.content_type or ""
    if has_body and given != state.content_type and not same(given, state.content_type):
        raise ContentTypeMismatch(state.content_type, given)
    if command.producer is not None:
        decision = decide(producer, command.producer)
        if isinstance(decision, Duplicate):
            return Repeat((decision.epoch, decision.highest_seq))
    if command.stream_seq is not None:
        _check_stream_seq(state.stream_seq, command.stream_seq)
    return Write(closes=command.close, has_data=has_body)


def _decide_closed(state: WriterState, command: Append, has_body: bool) -> Repeat:
    """A closed stream takes only repeats: of its closing request, or of a plain close."""
    claim = command.producer
    if claim is None:
        if command.close and not has_body:
            return Repeat(None)
    elif claim == state.closed_by:
        return Repeat((claim.epoch, claim.seq))
    raise StreamClosed(state.tail.offset)


def _check_stream_seq(last: str | None, received: str) -> None:
    # As bytes: UTF-8 sorts like code points, and so do Python's strings.
    if last is not None and received <= last:
        raise SequenceConflict(last, received)
