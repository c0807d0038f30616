from __future__ import annotations

import pytest

from durable_streams.model.commands import ProducerClaim
from durable_streams.model.errors import EpochWithoutStart, ProducerGap, StaleEpoch
from durable_streams.rules.producers import Accept, Duplicate, ProducerState, decide

STATE = ProducerState(epoch=5, seq=7)


@pytest.mark.parametrize(
    ("state", "epoch", "seq", "decision"),
    [
        (None, 0, 0, Accept()),
        (None, 9, 0, Accept()),
        (STATE, 5, 8, Accept()),
        (STATE, 6, 0, Accept()),
        (STATE, 99, 0, Accept()),
        (STATE, 5, 7, Duplicate(5, 7)),
        (STATE, 5, 0, Duplicate(5, 7)),
    ],
)
def test_new_requests_are_accepted_and_retries_recognised(
    state: ProducerState | None, epoch: int, seq: int, decision: Accept | Duplicate
) -> None:
    assert decide(state, ProducerClaim("p", epoch, seq)) == decision


@pytest.mark.parametrize(
    ("state", "epoch", "seq", "expected"),
    [(None, 0, 1, 0), (None, 3, 9, 0), (STATE, 5, 9, 8), (STATE, 5, 100, 8)],
)
def test_a_gap_says_what_was_expected(
    state: ProducerState | None, epoch: int, seq: int, expected: int
) -> None:
    with pytest.raises(ProducerGap) as caught:
        decide(state, ProducerClaim("p", epoch, seq))
    assert (caught.value.expected, caught.value.received) == (expected, seq)


@pytest.mark.parametrize("seq", [0, 7, 8, 100])
def test_an_old_epoch_is_fenced_off_whatever_its_sequence(seq: int) -> None:
    with pytest.raises(StaleEpoch) as caught:
        decide(STATE, ProducerClaim("p", 4, seq))
    assert caught.value.current == 5


@pytest.mark.parametrize("seq", [1, 8])
def test_a_new_epoch_begins_at_zero(seq: int) -> None:
    with pytest.raises(EpochWithoutStart):
        decide(STATE, ProducerClaim("p", 6, seq))
