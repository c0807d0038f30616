"""Idempotent producers: whether a request is new, a retry or fenced off (protocol §5.2.1).

    state                           request           decision
    unknown producer                seq 0             Accept, whatever the epoch
    unknown producer                seq > 0           ProducerGap
    epoch lower than the current                      StaleEpoch
    epoch higher than the current   seq 0             Accept
    epoch higher than the current   seq > 0           EpochWithoutStart
    same epoch                      seq <= highest    Duplicate
    same epoch                      seq = highest+1   Accept
    same epoch                      seq beyond that   ProducerGap

What a closed stream answers comes before this, see :mod:`.appends`.

A stream keeps its producers as long as its data.  Only where there is no room for one more may it
forget those that have been idle for over ``IDLE_MS``, as the times of their last appends say; the
protocol allows that ("Producer State Cleanup").  A forgotten producer is an unknown one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

import msgspec

from durable_streams.model.errors import EpochWithoutStart, ProducerGap, StaleEpoch

if TYPE_CHECKING:
    from durable_streams.model.commands import ProducerClaim


IDLE_MS: Final = 7 * 24 * 60 * 60 * 1000
"""Since its last append, for a producer that may be forgotten: what the protocol recommends."""


class ProducerState(NamedTuple):
    """The newest epoch of a producer and the highest sequence number accepted in it.

    ``time_ms``: of its last append, as the append's record has it, in milliseconds since 1970.
    """

    epoch: int
    seq: int
    time_ms: int = 0


class Accept(msgspec.Struct, frozen=True, gc=False):
    """The request is the next one: once it is done, the claim is the producer's state."""


class Duplicate(msgspec.Struct, frozen=True, gc=False):
    """The request was accepted before; nothing is to be written."""

    epoch: int
    highest_seq: int


_ACCEPT: Final = Accept()


def decide(state: ProducerState | None, claim: ProducerClaim) -> Accept | Duplicate:
    """Decide by the table above; ``state`` is None for a producer the stream has not seen."""
    if state is None:
        expected_seq = 0
    elif claim.epoch < state.epoch:
        raise StaleEpoch(state.epoch)
    elif claim.epoch > state.epoch:
        if claim.seq != 0:
            raise EpochWithoutStart(
                f"producer epoch {claim.epoch} is new and must begin at sequence 0, not {claim.seq}"
            )
        return _ACCEPT
    elif claim.seq <= state.seq:
        return Duplicate(state.epoch, state.seq)
    else:
        expected_seq = state.seq + 1
    if claim.seq != expected_seq:
        raise ProducerGap(expected_seq, claim.seq)
    return _ACCEPT
